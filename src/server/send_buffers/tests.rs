use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use tokio::time::sleep;

use super::{chunk::OVERHEAD, *};

const PATIENCE: Duration = Duration::from_secs(10);

fn peer(number: u8) -> IpAddr {
    [192, 0, 2, number].into()
}

fn is_cut(buffer: &SendBuffer) -> bool {
    buffer.cut().now_or_never().is_some()
}

fn chunk(buffer: &Arc<SendBuffer>, reader: &Reader) -> Chunk {
    reader.chunk(Bytes::from_static(&[0; 100]), buffer)
}

#[test]
fn an_answer_that_makes_no_progress_costs_its_connection() {
    let all = SendBuffers::new();
    let [stuck, slow, watching] = [1, 2, 3].map(|number| all.open(peer(number)));
    let stays = chunk(&stuck, &Reader::Prompt);
    let mut moves = chunk(&slow, &Reader::Prompt);
    let _stream = chunk(&watching, &Reader::slow());
    for _ in 0..AT_REST - 1 {
        all.begin_step();
        moves.advance(1);
        assert!(!is_cut(&stuck));
    }
    all.begin_step();
    moves.advance(1);
    assert!(is_cut(&stuck));
    drop(stays);
    for _ in 0..2 * STEPS {
        all.begin_step();
        moves.advance(1);
    }
    assert!(!is_cut(&slow) && !is_cut(&watching));
    let counts = [(TurnedAway::UnreadAnswerLate, 1), (TurnedAway::UnreadAnswersFull, 0)];
    assert_eq!(all.counts(), counts);
}

#[test]
fn a_slow_reader_has_to_be_prompt_when_the_answer_is_over() {
    let all = SendBuffers::new();
    let [stuck, moving, done] = [1, 2, 3].map(|number| all.open(peer(number)));
    let reader = Reader::slow();
    let _stays = chunk(&stuck, &reader);
    let mut moves = chunk(&moving, &reader);
    drop(chunk(&done, &reader));
    all_steps(&all, || {});
    let readers = [(); 2].map(|()| Reader::slow());
    let _stays = chunk(&stuck, &readers[0]);
    let mut left = chunk(&moving, &readers[1]);
    for (reader, buffer) in [(&reader, &done), (&readers[0], &stuck), (&readers[1], &moving)] {
        reader.over(buffer);
    }
    drop((reader, readers));
    all_steps(&all, || {
        moves.advance(1);
        left.advance(1);
    });
    assert_eq!([&stuck, &moving].map(|buffer| is_cut(buffer)), [true, false]);
}

#[test]
fn an_answer_may_wait_for_others_of_its_connection_for_a_while() {
    let all = SendBuffers::new();
    // For how many steps others make progress, and for how many more none does, before the
    // connection is closed.
    for (moving, still) in [(STUCK, 0), (AT_REST, AT_REST)] {
        let buffer = all.open(peer(1));
        let _waits = chunk(&buffer, &Reader::Prompt);
        for step in 1..=moving + still {
            assert!(!is_cut(&buffer), "{step} of {moving} + {still}");
            all.begin_step();
            if step <= moving {
                drop(chunk(&buffer, &Reader::Prompt));
            }
        }
        assert!(is_cut(&buffer), "{moving} + {still}");
    }
}

/// Takes more steps than a prompt reader has.
fn all_steps(all: &SendBuffers, mut each: impl FnMut()) {
    for _ in 0..2 * STEPS {
        all.begin_step();
        each();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_a_byte_within_ten_seconds_is_not_slow() {
    let all = SendBuffers::new();
    let buffer = all.open(peer(1));
    let mut moves = chunk(&buffer, &Reader::Prompt);
    let reading = async {
        for _ in 0..20 {
            sleep(PATIENCE).await;
            moves.advance(1);
        }
    };
    tokio::select! {
        biased;
        () = all.watch() => unreachable!("for ever"),
        () = reading => {}
        () = buffer.cut() => panic!("cut"),
    }
    let rested = Instant::now();
    tokio::select! {
        () = all.watch() => unreachable!("for ever"),
        () = buffer.cut() => {}
    }
    let rested = rested.elapsed();
    assert!((PATIENCE..=PATIENCE + STEP).contains(&rested), "{rested:?}");
}

#[tokio::test(start_paused = true)]
async fn where_too_much_is_unread_the_address_with_most_of_it_loses_its_largest() {
    let piece = OVERHEAD + 100;
    let all = SendBuffers::with_limit(8 * piece);
    let honest = all.open(peer(1));
    let _answers = [(); 3].map(|()| chunk(&honest, &Reader::Prompt));
    // Each of its connections holds less than the honest one.
    let flood: Vec<_> = (0..6).map(|_| all.open(peer(2))).collect();
    let mut held: Vec<_> = flood.iter().map(|buffer| chunk(buffer, &Reader::slow())).collect();
    let lost = |flood: &[Listed]| flood.iter().filter(|buffer| is_cut(buffer)).count();
    look(&all).await;
    assert_eq!(lost(&flood), 1, "one too many");
    // Connections that are being closed no longer count, so that no others are closed for them.
    held.push(chunk(&flood[5], &Reader::slow()));
    look(&all).await;
    assert_eq!(lost(&flood), 2);
    assert!(is_cut(&flood[5]), "it held most");
    assert!(!is_cut(&honest));
    assert_eq!(all.counts()[1], (TurnedAway::UnreadAnswersFull, 2));
}

#[tokio::test(start_paused = true)]
async fn where_too_much_is_unread_whoever_reads_stays() {
    let piece = OVERHEAD + 100;
    let all = SendBuffers::with_limit(8 * piece);
    let reader = all.open(peer(1));
    let mut answers = [(); 4].map(|()| chunk(&reader, &Reader::Prompt));
    let at_rest: Vec<_> = (2..8).map(|number| all.open(peer(number))).collect();
    let mut held = vec![chunk(&at_rest[5], &Reader::Prompt)];
    // All take something now and then, except the last, whose piece came first.
    for step in 0..4 {
        all.begin_step();
        answers[0].advance(1);
        if step == 0 {
            let others = &at_rest[..5];
            held.extend(others.iter().map(|buffer| chunk(buffer, &Reader::Prompt)));
            held[1..].iter_mut().for_each(|piece| piece.advance(1));
        }
    }
    look(&all).await;
    let lost: Vec<_> = at_rest.iter().map(|buffer| is_cut(buffer)).collect();
    assert!(!is_cut(&reader), "it holds most, and reads");
    assert_eq!(lost.iter().filter(|lost| **lost).count(), 2, "two too many: {lost:?}");
    assert!(lost[5], "it has taken nothing for longest");
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_written_at_once_may_be_many() {
    let all = SendBuffers::with_limit(8 * (OVERHEAD + 100));
    let buffers = [1, 2].map(|number| all.open(peer(number)));
    let mut burst: Vec<_> = (0..15).map(|at| chunk(&buffers[at % 2], &Reader::Prompt)).collect();
    let written = async {
        sleep(BURST / 2).await;
        // Other answers are made meanwhile.
        burst.splice(.., (0..4).map(|at| chunk(&buffers[at % 2], &Reader::Prompt)));
        sleep(BURST).await;
    };
    tokio::select! {
        () = all.watch() => unreachable!("for ever"),
        () = written => {}
    }
    assert!(!buffers.iter().any(|buffer| is_cut(buffer)));
}

#[tokio::test(start_paused = true)]
async fn answers_of_a_moment_take_no_more_than_twice_the_limit() {
    let all = SendBuffers::with_limit(8 * (OVERHEAD + 100));
    let flood: Vec<_> = (0..40).map(|number| all.open(peer(number))).collect();
    let mut held = Vec::new();
    let most = AtomicUsize::new(0);
    // Connections that are closed free what they hold, and others go on.
    let coming = async {
        for at in 0..400 {
            let buffer = &flood[at % flood.len()];
            held.push((buffer, chunk(buffer, &Reader::Prompt)));
            held.retain(|(buffer, _)| !is_cut(buffer));
            most.fetch_max(all.bytes.0.load(Ordering::Relaxed), Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    // The watch runs after each answer, as it could on a thread of its own.
    tokio::select! {
        biased;
        () = all.watch() => unreachable!("for ever"),
        () = coming => {}
    }
    let most = most.into_inner();
    assert!(most <= (BURST_MAX * 8 + 1) * (OVERHEAD + 100), "{most}");
}

/// Gives the watch time for one look.
async fn look(all: &SendBuffers) {
    let _watched = timeout(2 * BURST, all.watch()).await;
}

#[test]
fn what_is_dropped_is_held_no_more() {
    let all = SendBuffers::new();
    let buffer = all.open(peer(1));
    let mut chunks = [Reader::Prompt, Reader::slow()].map(|reader| chunk(&buffer, &reader));
    assert_eq!(all.usage().taken, 2 * (OVERHEAD + 100) / PLACE + 1);
    all.begin_step();
    chunks[0].advance(100);
    drop(chunks);
    assert_eq!(all.usage().taken, 0);
    assert!((0..STEPS).all(|step| buffer.at(step).load(Ordering::Relaxed) == 0));
    drop(buffer);
    assert!(all.connections().all.is_empty());
}
