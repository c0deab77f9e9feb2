use proptest::prelude::*;

use super::*;

/// A gateway of which the limit knows only the times.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// How many requests at once it bears.
    bears: f64,
    /// The seconds that each interface takes then.
    alone: [f64; 2],
    /// The power with which the time grows with the requests beyond that: 1 for a queue, more for a gateway that does
    /// less the more it has to do.
    strain: f64,
}

/// Callers who bring up to this many requests at once.
#[derive(Debug)]
struct World {
    limit: AdaptiveLimit,
    now: Instant,
    at_once: f64,
    chance: u64,
    /// The part of requests that get no answer.
    lost: f64,
    /// Whether all answers take as long as they do on average.
    is_even: bool,
    /// Whether it takes so long to see that there is no answer, that nothing is known of it while a limit is tried.
    is_late: bool,
}

const CEILING: usize = 128;
const FAST: Host = Host { bears: 1e9, alone: [0.01, 0.01], strain: 1.0 };

impl Host {
    fn longer(&self, at_once: f64) -> f64 {
        (at_once / self.bears).max(1.0).powf(self.strain)
    }
}

impl World {
    fn new(at_once: f64) -> Self {
        let now = Instant::now();
        let limit = AdaptiveLimit::new(CEILING, 2, now);
        Self { limit, now, at_once, chance: 1, lost: 0.0, is_even: false, is_late: false }
    }

    /// Between 0 and 1, and always the same ones.
    fn random(&mut self) -> f64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        f64::from(u32::try_from(self.chance >> 33).unwrap()) / f64::from(1_u32 << 31)
    }

    /// Lets the callers go on for so many seconds. Returns the answers in a second.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
    fn run(&mut self, host: Host, seconds: f64) -> f64 {
        let (mut passed, mut answers) = (0.0, 0.0);
        while passed < seconds {
            let limit = self.limit.limit() as u32;
            let at_once = self.at_once.min(f64::from(limit));
            let longer = host.longer(at_once);
            let mean = f64::midpoint(host.alone[0], host.alone[1]) * longer;
            let per_second = at_once / mean;
            let few_after = if self.limit.is_trying() { 10.0_f64 } else { 3.0 };
            let enough = (100.0 / per_second).min(few_after.max(30.0 / per_second));
            let lasts = (mean * 2.0).clamp(0.1, 2.0).max(enough);
            let each = (per_second * lasts / 2.0).ceil() as u32;
            let mut window = Window {
                answered: Vec::new(),
                unanswered: if self.is_late && self.limit.is_trying() {
                    0
                } else {
                    (f64::from(each) * 2.0 * self.lost) as u32
                },
                most: at_once as usize,
                pressed: self.at_once > f64::from(limit),
            };
            for alone in host.alone {
                let mean = (alone * longer * 1e9).log2();
                let mut sum = mean * f64::from(each);
                if !self.is_even {
                    // Times of a queue that is served by chance.
                    sum += (0..each).map(|_| (-self.random().max(1e-9).ln()).log2()).sum::<f64>();
                }
                window.answered.push((each, sum));
            }
            self.now += Duration::from_secs_f64(lasts);
            let lower = float(self.limit.note(&window, self.now));
            if lower < at_once {
                // As many have to end before one more begins, and then these take their time.
                let ending = (at_once - lower) / per_second + mean;
                self.now += Duration::from_secs_f64(ending);
                (passed, answers) = (passed + ending, answers + ending * per_second);
            }
            (passed, answers) = (passed + lasts, answers + f64::from(each) * 2.0);
        }
        answers / passed
    }

    fn freeze(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        let most = self.limit.limit();
        let late = (seconds * 1e9).log2() * 64.0;
        let window =
            Window { answered: vec![(64, late), (0, 0.0)], unanswered: 0, most, pressed: true };
        self.limit.note(&window, self.now);
    }
}

#[test]
fn a_gateway_gets_about_as_much_as_it_bears() {
    for (bears, alone, strain) in [
        (8.0, 0.01, 1.0),
        (8.0, 0.01, 2.0),
        (16.0, 0.05, 1.0),
        (16.0, 0.05, 2.0),
        (30.0, 0.3, 2.0),
        (5.0, 0.002, 1.5),
        (6.0, 0.5, 1.0),
        (8.0, 0.3, 1.0),
        (8.0, 0.4, 1.0),
    ] {
        let host = Host { bears, alone: [alone; 2], strain };
        for (is_even, least) in [(true, 0.87), (false, 0.7)] {
            let mut goodput = 0.0;
            for chance in 1..=5 {
                let mut world = World { chance, is_even, ..World::new(500.0) };
                world.run(host, 30.0 + 1500.0 * alone / bears);
                let lasts = 60.0 + 3000.0 * alone / bears;
                goodput += world.run(host, lasts) / (bears / alone) / 5.0;
                let limit = world.limit.limit();
                assert!((bears * 0.25..bears * 4.0).contains(&float(limit)), "{host:?}: {limit}");
            }
            assert!(goodput > least, "{host:?}: {goodput}");
        }
    }
}

#[test]
fn a_slow_gateway_gets_as_much_as_may_be() {
    for alone in [[0.3, 0.3], [0.01, 0.3], [0.001, 0.001], [3.0, 0.1]] {
        let host = Host { alone, ..FAST };
        let mut world = World::new(500.0);
        world.run(host, 5.0);
        let answers = world.run(host, 300.0);
        let best = 128.0 / f64::midpoint(alone[0], alone[1]);
        assert!(answers > 0.9 * best, "{alone:?}: {answers} of {best}");
    }
}

#[test]
fn a_gateway_that_becomes_slow_whatever_it_has_to_do_gets_as_much_again() {
    let mut world = World::new(500.0);
    world.run(FAST, 60.0);
    let host = Host { alone: [0.3; 2], ..FAST };
    world.run(host, 20.0);
    let answers = world.run(host, 60.0);
    assert!(answers > 0.8 * 128.0 / 0.3, "{answers}");
}

#[test]
fn after_a_standstill_the_limit_is_back_within_seconds() {
    let mut world = World::new(500.0);
    world.run(FAST, 60.0);
    world.freeze(2.0);
    let lowest = world.limit.limit();
    assert!(lowest >= CEILING / 2, "{lowest}");
    world.run(FAST, 3.0);
    assert_eq!(world.limit.limit(), CEILING);
}

#[test]
fn a_limit_that_nobody_waits_for_returns_to_its_ceiling() {
    let host = Host { bears: 8.0, alone: [0.01; 2], strain: 2.0 };
    let mut world = World::new(500.0);
    world.run(host, 30.0);
    assert!(world.limit.limit() < 20);
    world.at_once = 4.0;
    world.run(host, 20.0);
    assert_eq!(world.limit.limit(), CEILING);
}

/// Where a gateway has become slower by a quarter while it had too much to do, that is no reason to give it little for
/// ever.
#[test]
fn a_gateway_that_bears_more_again_gets_more_though_it_has_become_a_little_slower() {
    for slower in [1.0, 1.2, 1.25, 1.3, 1.5] {
        let mut world = World::new(500.0);
        world.run(FAST, 10.0);
        world.run(Host { bears: 3.0, strain: 2.0, ..FAST }, 120.0);
        assert!(world.limit.limit() < 10, "{slower}: {}", world.limit.limit());
        let host = Host { alone: [0.01 * slower; 2], ..FAST };
        world.run(host, 60.0);
        // A lower limit may just be tried.
        let mut limits = (0..10).map(|_| {
            world.run(host, 0.1);
            world.limit.limit()
        });
        assert!(limits.any(|limit| limit == CEILING), "{slower}");
    }
}

/// As where one of several servers behind a host fails.
#[test]
fn requests_of_which_a_part_always_fails_get_as_much_as_before() {
    for (lost, is_late) in
        [0.05, 0.2, 0.5].into_iter().flat_map(|lost| [(lost, false), (lost, true)])
    {
        let mut world = World { is_late, ..World::new(500.0) };
        world.run(Host { bears: 8.0, strain: 2.0, ..FAST }, 30.0);
        world.lost = lost;
        world.run(FAST, 60.0);
        let answers = world.run(FAST, 60.0);
        let best = 128.0 / 0.01;
        assert!(answers > 0.85 * best, "{lost}: {answers} of {best}");
    }
}

fn windows() -> impl Strategy<Value = Vec<Window>> {
    let answered = proptest::collection::vec((0..200_u32, 10.0..40.0_f64), 2);
    let window = (answered, 0..50_u32, 0..300_usize, any::<bool>());
    let window = window.prop_map(|(answered, unanswered, most, pressed)| Window {
        answered: answered
            .into_iter()
            .map(|(count, time)| (count, time * f64::from(count)))
            .collect(),
        unanswered,
        most,
        pressed,
    });
    proptest::collection::vec(window, 1..100)
}

proptest! {
    #[test]
    fn a_limit_is_never_below_its_floor_nor_above_its_ceiling_and_falls_only_where_somebody_waits(
        ceiling in 1..1000_usize,
        windows in windows(),
    ) {
        let mut now = Instant::now();
        let mut limit = AdaptiveLimit::new(ceiling, 2, now);
        for window in windows {
            now += Duration::from_millis(100);
            let before = limit.limit();
            let after = limit.note(&window, now);
            prop_assert!(after <= ceiling && after >= ceiling.min(4), "{after}");
            prop_assert!(window.pressed || after >= before, "{before} {after}");
        }
    }
}
