use std::sync::mpsc::{Receiver, channel};

use super::*;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);
/// What is to come has come by then.
const SOON: Duration = Duration::from_secs(20);

/// A writer with this pause, and what is written at once, with each line feed as `|`.
fn written(pause: Duration) -> (LineWriter, Receiver<String>) {
    let (sender, written) = channel();
    let write = move |lines: &[u8]| {
        sender.send(String::from_utf8_lossy(lines).replace('\n', "|")).unwrap();
        0
    };
    (LineWriter::pausing(pause, "test", write).unwrap(), written)
}

#[test]
fn lines_that_come_during_the_pause_are_written_together_and_the_end_does_not_wait_for_it() {
    let (lines, written) = written(LONG);
    lines.add(b"one\n");
    assert_eq!(written.recv_timeout(SOON).as_deref(), Ok("one|"));
    lines.add(b"two\n");
    lines.add(b"three\n");
    assert!(written.try_recv().is_err());
    lines.end();
    assert_eq!(written.iter().collect::<Vec<_>>(), ["two|three|"]);
    assert_eq!(lines.lost(), 0);
    lines.add(b"four\n");
    assert_eq!(lines.lost(), 1, "nobody writes it any more");
}

#[test]
fn the_last_line_comes_behind_those_that_wait_and_none_comes_behind_it() {
    let (lines, written) = written(LONG);
    lines.add(b"one\n");
    assert_eq!(written.recv_timeout(SOON).as_deref(), Ok("one|"));
    lines.add(b"two\n");
    lines.end_with(b"last\n");
    lines.end_with(b"another\n");
    lines.add(b"three\n");
    assert_eq!(written.iter().collect::<Vec<_>>(), ["two|last|"]);
}

#[test]
fn each_line_is_written_by_itself_where_none_follows() {
    let (lines, written) = written(PAUSE);
    for line in ["one", "two", "three"] {
        lines.add(format!("{line}\n").as_bytes());
        assert_eq!(written.recv_timeout(SOON), Ok(format!("{line}|")));
    }
}

#[test]
fn many_lines_are_written_in_whole_lines_of_no_more_than_a_pipe_takes_at_once() {
    let (lines, written) = written(LONG);
    let long = "x".repeat(2 * BLOCK);
    lines.add(b"first\n");
    assert_eq!(written.recv_timeout(SOON).as_deref(), Ok("first|"));
    for number in 0..1000 {
        lines.add(format!("line {number}\n").as_bytes());
    }
    lines.add(format!("{long}\n").as_bytes());
    lines.end();
    let blocks: Vec<_> = written.iter().collect();
    let (last, blocks) = blocks.split_last().unwrap();
    assert_eq!(*last, format!("{long}|"));
    assert!(blocks.len() < 5, "{}", blocks.len());
    assert!(blocks.iter().all(|block| block.len() <= BLOCK && block.ends_with('|')));
    let expected = (0..1000).map(|number| format!("line {number}|")).collect::<Vec<_>>().concat();
    assert_eq!(blocks.concat(), expected);
}

#[test]
fn what_waits_is_bounded_in_bytes_and_what_finds_no_room_is_counted() {
    for length in [300, BLOCK * 2 / 3, 64 * 1024] {
        let (goes_on, stands_still) = channel::<()>();
        let (sender, written) = channel();
        let write = move |lines: &[u8]| {
            let _goes_on = stands_still.recv();
            sender.send(lines.len()).unwrap();
            0
        };
        let lines = LineWriter::start("test", write).unwrap();
        let (line, count) = (vec![b'x'; length], 2 * WAITING_MAX / length);
        for _ in 0..count {
            lines.add(&line);
        }
        let lost = usize::try_from(lines.lost()).unwrap();
        let waiting = (count - lost) * length;
        assert!((WAITING_MAX / 2..=WAITING_MAX).contains(&waiting), "{waiting} wait");
        drop(goes_on);
        let mut left = waiting;
        while left > 0 {
            left -= written.recv_timeout(SOON).unwrap();
        }
        lines.add(&line);
        assert_eq!(written.recv_timeout(SOON), Ok(length), "there is room again");
        assert_eq!(lines.lost(), lost as u64);
    }
}

#[test]
fn the_end_comes_although_the_reader_stands_still() {
    let (_goes_on, stands_still) = channel::<()>();
    let write = move |_: &[u8]| {
        let _goes_on = stands_still.recv();
        0
    };
    let lines = LineWriter::start("test", write).unwrap();
    lines.add(b"line\n");
    lines.end();
}

/// A device whose writes go as listed in `does`: each takes at most so many bytes, or fails. Afterwards it takes
/// everything.
struct Device {
    does: VecDeque<Result<usize, ErrorKind>>,
    has: Vec<u8>,
}

impl Write for Device {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = self.does.pop_front().unwrap_or(Ok(usize::MAX))?;
        let taken = bytes.get(..most).unwrap_or(bytes);
        self.has.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn each_line_is_there_or_is_counted_and_begins_where_a_line_begins() {
    const FULL: Result<usize, ErrorKind> = Err(ErrorKind::StorageFull);
    for (does, expected, expected_lost) in [
        (&[][..], "one|two|three|four|", 0),
        (&[Ok(2), Err(ErrorKind::Interrupted), Ok(3)], "one|two|three|four|", 0),
        (&[FULL], "two|three|four|", 1),
        (&[Ok(0)], "two|three|four|", 1),
        (&[Ok(4), FULL], "one|three|four|", 1),
        (&[Ok(6), FULL], "one|tw|three|four|", 1),
        (&[Ok(6), FULL, FULL], "one|tw|four|", 2),
        (&[Ok(6), FULL, Ok(1), FULL], "one|tw|four|", 2),
        (&[FULL, FULL, FULL, FULL], "", 4),
    ] {
        let mut device = Device { does: does.iter().copied().collect(), has: Vec::new() };
        let (mut is_torn, mut lost) = (false, 0);
        for lines in ["one\ntwo\nthree\n", "four\n"] {
            lost += write_lines(&mut device, &mut is_torn, lines.as_bytes());
        }
        let has = String::from_utf8(device.has).unwrap().replace('\n', "|");
        assert_eq!((has.as_str(), lost), (expected, expected_lost), "{does:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn lines_to_a_device_that_is_full_are_counted() {
    let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut is_torn = false;
    let write = move |lines: &[u8]| write_lines(&mut full, &mut is_torn, lines);
    let lines = LineWriter::start("test", write).unwrap();
    for _ in 0..10 {
        lines.add(b"line\n");
    }
    lines.end();
    assert_eq!(lines.lost(), 10);
}
