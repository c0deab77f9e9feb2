//! Places among requests, and the queue of those who wait for one.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicIsize, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::fair_queue::{FairQueue, Order, Ticket};
use crate::{
    call::{Obstacle, Share},
    tenant::{CallerId, Usage},
};

/// A bounded number of places, whose bound can be changed while places are taken. Callers who wait for one take turns.
#[derive(Debug)]
pub(super) struct Places {
    share: Share,
    /// When the queue has been standing for so long, the newest comes first.
    overloaded: Duration,
    limit: AtomicUsize,
    /// Less than none after the limit was lowered while places were taken.
    free: AtomicIsize,
    /// The least that were free since somebody asked.
    least_free: AtomicIsize,
    /// How many wait. Whoever gives a place back reads it after that, and whoever begins to wait looks for a free place
    /// after it is counted. So one of the two sees the other.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: FairQueue<oneshot::Sender<Place>>,
    /// Since when it has never been empty.
    standing: Option<Instant>,
    /// Since when places are given away without a longer break than [`STANDSTILL`], and when the last one was.
    moving: Option<(Instant, Instant)>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

/// Who waits for a place, and how long.
#[derive(Clone, Copy, Debug)]
pub(in crate::tenant) struct Patience {
    pub(in crate::tenant) caller: CallerId,
    /// How long it waits at most. While others get places, it leaves after a [tenth](HASTE) of it.
    pub(in crate::tenant) wait: Duration,
    /// When it is too late to send anything; `None`: it is not known here.
    pub(in crate::tenant) start_by: Option<Instant>,
}

/// Takes its entry out of the queue when dropped.
struct Waiting<'a> {
    places: &'a Places,
    ticket: Ticket,
    place: oneshot::Receiver<Place>,
}

/// A queue that has been standing for so long is that of an overload. From then on the newest comes first: the oldest
/// have used up their time, and would be too late one after the other.
const OVERLOADED: Duration = Duration::from_millis(20);
/// Whoever has waited for this part of its time (a tenth) while others got places leaves: its turn does not come any more.
/// In a standstill it stays, and for half of its time after that, since all who have waited may be served then.
const HASTE: u32 = 10;
/// Where no place is given away for so long, there is a standstill.
const STANDSTILL: Duration = Duration::from_millis(100);
/// The resolution of timers.
const LEAST: Duration = Duration::from_millis(1);
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

impl Places {
    pub(super) fn new(share: Share, limit: NonZeroUsize) -> Arc<Self> {
        Self::with(share, limit, OVERLOADED)
    }

    /// The same for those who may wait for long: the newest never comes first.
    pub(super) fn in_order(share: Share, limit: NonZeroUsize) -> Arc<Self> {
        Self::with(share, limit, FAR)
    }

    fn with(share: Share, limit: NonZeroUsize, overloaded: Duration) -> Arc<Self> {
        let free = signed(limit.get());
        Arc::new(Self {
            share,
            overloaded,
            limit: limit.get().into(),
            free: free.into(),
            least_free: free.into(),
            waiting: AtomicUsize::default(),
            queue: Mutex::default(),
        })
    }

    /// Takes a place if one is free and nobody waits.
    pub(super) fn take_now(self: &Arc<Self>) -> Option<Place> {
        let is_free = self.waiting.load(Ordering::SeqCst) == 0 && self.claim();
        is_free.then(|| Place(self.clone()))
    }

    /// Takes a place, or waits for one. `typical` is what a request usually takes, if that is known.
    ///
    /// Whoever could not do anything with the place any more does not wait: its request would only take the time of
    /// others. Half of the usual time counts, since the request may be quicker.
    pub(super) async fn take(
        self: &Arc<Self>,
        Patience { caller, wait, start_by }: Patience,
        typical: Option<Duration>,
    ) -> Result<Place, Obstacle> {
        if let Some(place) = self.take_now() {
            return Ok(place);
        }
        let now = Instant::now();
        let patient = now + wait.min(FAR);
        // Where nothing is known of a request's time, only the deadline itself counts, for which the caller looks.
        let of_use =
            start_by.zip(typical).map(|(by, time)| by.checked_sub(time / 2).unwrap_or(now));
        let until = of_use.map_or(patient, |of_use| patient.min(of_use));
        let mut waiting = self.begin_to_wait(caller, (now, until), typical)?;
        self.hand_out();
        let haste = if wait < FAR { (wait / HASTE).max(LEAST) } else { FAR };
        let mut look = (now + haste).min(until);
        loop {
            match timeout_at(look, &mut waiting.place).await {
                Ok(place) => return place.map_err(|_| self.used_up()),
                Err(_elapsed) if look < until && !self.queue().has_moved_for(wait / 2, look) => {
                    look = (look + haste).min(until);
                }
                // It may have come at the same moment.
                Err(_elapsed) => return waiting.place.try_recv().map_err(|_| self.used_up()),
            }
        }
    }

    fn begin_to_wait(
        &self,
        caller: CallerId,
        (now, until): (Instant, Instant),
        typical: Option<Duration>,
    ) -> Result<Waiting<'_>, Obstacle> {
        let mut queue = self.queue();
        let ahead = match queue.order(self.overloaded, now) {
            Order::Oldest => u32::try_from(queue.waiting.line(caller)).unwrap_or(u32::MAX),
            Order::Newest => 0,
        };
        let places = u32::try_from(self.limit()).unwrap_or(u32::MAX).max(1);
        if now + typical.unwrap_or_default().saturating_mul(ahead) / places / 2 >= until {
            return Err(self.used_up());
        }
        let (tell, place) = oneshot::channel();
        queue.standing.get_or_insert(now);
        let ticket = queue.waiting.push(caller, tell);
        self.waiting.store(queue.waiting.len(), Ordering::SeqCst);
        Ok(Waiting { places: self, ticket, place })
    }

    /// Changes the number of places. If more are taken than there will be, nobody gets one before they are given back.
    pub(super) fn resize(self: &Arc<Self>, limit: usize) {
        let before = self.limit.swap(limit, Ordering::Relaxed);
        self.free.fetch_add(signed(limit) - signed(before), Ordering::SeqCst);
        if limit > before {
            self.hand_out();
        }
    }

    /// How many there are.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many wait for one.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The most that were taken at once since this was last asked.
    pub(super) fn most_taken(&self) -> usize {
        let free = self.free.load(Ordering::Relaxed);
        let least = self.least_free.swap(free, Ordering::Relaxed).min(free);
        usize::try_from(signed(self.limit()) - least).unwrap_or_default()
    }

    pub(super) fn usage(&self) -> Usage {
        let limit = self.limit();
        let free = usize::try_from(self.free.load(Ordering::Relaxed)).unwrap_or_default();
        Usage::new(self.share, limit, limit.saturating_sub(free))
    }

    /// The error for one who gets no place.
    pub(super) fn used_up(&self) -> Obstacle {
        let limit = NonZeroUsize::new(self.limit()).unwrap_or(NonZeroUsize::MIN);
        Obstacle::Overloaded { share: self.share, limit }
    }

    /// Takes a place, if one is free.
    fn claim(&self) -> bool {
        let one_less = |free: isize| (free > 0).then_some(free - 1);
        let claimed = self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if let Ok(before) = claimed
            && before <= self.least_free.load(Ordering::Relaxed)
        {
            self.least_free.store(before - 1, Ordering::Relaxed);
        }
        claimed.is_ok()
    }

    /// Gives the free places to those who wait.
    fn hand_out(self: &Arc<Self>) {
        let mut left = None;
        let mut queue = self.queue();
        while left.is_none() && queue.waiting.len() > 0 && self.claim() {
            let now = Instant::now();
            let order = queue.order(self.overloaded, now);
            queue.move_on(now);
            left = queue.hand_to_next(Place(self.clone()), order);
        }
        self.count(&mut queue);
        // To give a place back takes the lock of the queue.
        drop(queue);
        drop(left);
    }

    fn count(&self, queue: &mut Queue) {
        let waiting = queue.waiting.len();
        if waiting == 0 {
            queue.standing = None;
        }
        self.waiting.store(waiting, Ordering::SeqCst);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn order(&self, overloaded: Duration, now: Instant) -> Order {
        let is_overload = |since| now.saturating_duration_since(since) >= overloaded;
        if self.standing.is_some_and(is_overload) { Order::Newest } else { Order::Oldest }
    }

    /// Gives a place to the next who waits. Returns it if nobody does.
    fn hand_to_next(&mut self, mut place: Place, order: Order) -> Option<Place> {
        // One who leaves at this moment may still be in the queue.
        while let Some(one) = self.waiting.pop(order) {
            match one.send(place) {
                Ok(()) => return None,
                Err(back) => place = back,
            }
        }
        Some(place)
    }

    /// Notes that a place is given away.
    fn move_on(&mut self, now: Instant) {
        let goes_on = |(_, last): &(Instant, Instant)| now <= *last + STANDSTILL;
        let since = self.moving.filter(goes_on).map_or(now, |(since, _)| since);
        self.moving = Some((since, now));
    }

    /// Whether places have been given away for so long, without a standstill.
    fn has_moved_for(&self, time: Duration, now: Instant) -> bool {
        self.moving.is_some_and(|(since, last)| now <= last + STANDSTILL && now >= since + time)
    }
}

impl Place {
    /// Whether it is one of these.
    pub(super) fn is_of(&self, places: &Arc<Places>) -> bool {
        Arc::ptr_eq(&self.0, places)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.hand_out();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = self.places.queue();
        if queue.waiting.remove(self.ticket).is_some() {
            self.places.count(&mut queue);
        }
    }
}

fn signed(count: usize) -> isize {
    isize::try_from(count).unwrap_or(isize::MAX)
}

#[cfg(test)]
mod tests;
