//! How often a warm call allocates memory, and how much. Both are counts, so they are the same on every machine and under
//! any load.
//!
//! In a program of its own, since the allocator that counts is the whole program's. It counts one thread, on which
//! there is nothing but the bridge: the gateway and the caller have another one.

use allocation_counter::measure;
use ccgateway_sim::{AuthMode, Options};
use ccgateway_test_support::{AGENT, Setup, Site, TestBridge};
use tokio::runtime::Builder;

/// Calls before the count, which open connections and make tables as large as they stay, and those that are counted.
/// Whatever is allocated now and then, and not by each call, is lost when the sum is divided.
const WARMING: u64 = 100;
const COUNTED: u64 = 1000;

/// What a call of a development build allocates. Whoever lowers that lowers these too, to what is printed by
/// `cargo test --test allocations -- --nocapture`. Run under `valgrind --tool=dhat`, the test's program says where memory
/// is allocated. A longer buffer in place of one that has become too short counts like a new one.
const ALLOCATIONS_MAX: u64 = 40;
const BYTES_MAX: u64 = 19 * 1024;

#[test]
fn a_warm_call_allocates_no_more_than_it_did() {
    let elsewhere = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let elsewhere = elsewhere.expect("a runtime");
    let here = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let gateway = Options { auth_mode: AuthMode::Static, idle_sign_out: None, ..<_>::default() };
    let tenant = "auth_mode = \"static\"\n".to_owned();
    let setup = Setup { gateway: gateway.clone(), tenant, ..<_>::default() };
    let site = here.block_on(elsewhere.spawn(Site::new(gateway))).expect("a site");
    let bridge = here.block_on(TestBridge::at(&site, &setup));
    let guid = site.gateway.sign_in(AGENT);

    // What the bridge does is done on this thread, while it waits for the caller.
    let (register, caller) = ((*bridge).clone(), (*bridge).clone());
    let registered = elsewhere.spawn(async move { register.register(AGENT, &guid).await });
    here.block_on(registered).expect("ended").expect("registered");
    let make = |calls| {
        let caller = caller.clone();
        let made = elsewhere.spawn(async move {
            for _ in 0..calls {
                caller.set_busy(AGENT).await.expect("accepted");
            }
        });
        here.block_on(made).expect("all are accepted");
    };
    make(WARMING);
    let counted = measure(|| make(COUNTED));

    let [allocations, bytes] = [counted.count_total, counted.bytes_total].map(|all| all / COUNTED);
    println!("a warm call allocates {allocations} times, {bytes} bytes in all");
    assert!(allocations <= ALLOCATIONS_MAX, "{allocations} allocations a call");
    assert!(bytes <= BYTES_MAX, "{bytes} bytes a call");
    assert!(allocations > 0, "nothing was counted");
}
