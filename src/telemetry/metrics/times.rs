//! How long things took.

use std::{
    array, fmt,
    iter::Sum,
    ops::{Add, Sub},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// The upper ends of all buckets but the last, in seconds. They are fine where fast gateways answer, and reach
/// to the longest useful deadlines.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// The last bucket has no upper end.
const BUCKETS: usize = SECONDS.len() + 1;

/// A histogram of times. The library's own takes a lock for each of them, and cannot be read but as text. Clones
/// are the same histogram.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    counts: [AtomicU64; BUCKETS],
    /// The sum in seconds, as the bits of an `f64`.
    sum: AtomicU64,
}

/// How many times are in each bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times([u64; BUCKETS]);

// === impl Histogram ===

impl Histogram {
    /// Adds a time.
    pub(super) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = SECONDS.iter().position(|end| seconds <= *end).unwrap_or(SECONDS.len());
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let sum = &self.0.sum;
        let mut before = sum.load(Ordering::Relaxed);
        loop {
            let after = (f64::from_bits(before) + seconds).to_bits();
            match sum.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => before = now,
            }
        }
    }

    /// How many times each bucket has by now.
    pub(super) fn times(&self) -> Times {
        Times(self.0.counts.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let sum = f64::from_bits(self.0.sum.load(Ordering::Relaxed));
        let Times(counts) = self.times();
        let ends = SECONDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = ends.zip(counts).collect();
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

// === impl Times ===

impl Times {
    /// The time that this many of a thousand did not exceed; `None` if there are none. As in Prometheus, times are
    /// taken to be spread evenly over their bucket, and those of the last one to be at its beginning.
    pub fn quantile(&self, permille: u64) -> Option<Duration> {
        let total: u64 = self.0.iter().sum();
        let rank = total.saturating_mul(permille).div_ceil(1000).max(1);
        let (mut below, mut from) = (0, Duration::ZERO);
        for (count, end) in self.0.into_iter().zip(SECONDS) {
            let to = Duration::from_secs_f64(end);
            if below + count >= rank {
                let nanos = to.saturating_sub(from).as_nanos() * u128::from(rank - below);
                let nanos = u64::try_from(nanos / u128::from(count)).unwrap_or(u64::MAX);
                return Some(from + Duration::from_nanos(nanos));
            }
            (below, from) = (below + count, to);
        }
        (total > 0).then_some(from)
    }

    fn with(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        let (Self(one), Self(other)) = (self, other);
        let mut pairs = one.into_iter().zip(other);
        Self(array::from_fn(|_| pairs.next().map_or(0, |(one, other)| combine(one, other))))
    }
}

impl Add for Times {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }
}

impl Sub for Times {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        self.with(before, u64::saturating_sub)
    }
}

impl Sum for Times {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn of(millis: &[u64]) -> Histogram {
        let histogram = Histogram::default();
        for millis in millis {
            histogram.observe(Duration::from_millis(*millis));
        }
        histogram
    }

    #[test]
    fn quantiles_are_read_from_the_buckets() {
        for (millis, permille, expected) in [
            (&[][..], 500, None),
            // One bucket, from 10 to 25 ms.
            (&[20], 500, Some(25)),
            (&[20, 20, 20], 500, Some(20)),
            (&[1, 1, 1, 1, 1, 1, 1, 1, 1, 60], 500, Some(0)),
            (&[1, 1, 1, 1, 1, 1, 1, 1, 1, 60], 990, Some(100)),
            // Longer than the last end.
            (&[60_000], 990, Some(30_000)),
        ] {
            let quantile = of(millis).times().quantile(permille);
            assert_eq!(quantile.map(|time| time.as_millis()), expected, "{millis:?} {permille}");
        }
    }

    #[test]
    fn times_can_be_added_and_subtracted() {
        let (one, both) = (of(&[1, 20]).times(), of(&[1, 20, 20, 7_000]).times());
        assert_eq!(both - one, of(&[20, 7_000]).times());
        assert_eq!([one, of(&[20, 7_000]).times()].into_iter().sum::<Times>(), both);
    }

    #[test]
    fn a_time_at_the_end_of_a_bucket_is_in_it_and_the_text_is_as_scrapers_want_it() {
        let histogram = of(&[1, 250, 31_000]);
        let mut registry = Registry::default();
        registry.register("took", "Times", histogram);
        let mut text = String::new();
        encode(&mut text, &registry).expect("it is written");
        for line in [
            "# TYPE took histogram\n",
            "took_sum 31.251\n",
            "took_count 3\n",
            "took_bucket{le=\"0.0005\"} 0\n",
            "took_bucket{le=\"0.001\"} 1\n",
            "took_bucket{le=\"0.1\"} 1\n",
            "took_bucket{le=\"0.25\"} 2\n",
            "took_bucket{le=\"30.0\"} 2\n",
            "took_bucket{le=\"+Inf\"} 3\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
