#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ccgateway_bridge_fuzz::answer(data));
