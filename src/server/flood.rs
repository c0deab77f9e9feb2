//! Floods of frames for which a connection is ended.

/// What a peer sends too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FloodKind {
    /// Frames that get it nowhere: its [`FrameBudget`](super::frame_budget::FrameBudget) is used up.
    Frames,
    /// RST_STREAM: more than `server.connections.resets_per_second`.
    Resets,
}

/// A flood, when it is noticed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flood {
    pub(super) kind: FloodKind,
    /// The highest stream that the peer has begun.
    pub(super) last_stream: u32,
}

impl FloodKind {
    /// What the peer and the log are told.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Frames => "too many frames without progress",
            Self::Resets => "too many resets a second",
        }
    }
}

impl Flood {
    /// The GOAWAY for its peer (RFC 9113, sections 6.8 and 10.5). hyper sends none with this reason when
    /// it is asked to.
    pub(super) fn goaway(self) -> Vec<u8> {
        const GOAWAY: u8 = 7;
        const ENHANCE_YOUR_CALM: u32 = 11;
        let numbers = [self.last_stream.to_be_bytes(), ENHANCE_YOUR_CALM.to_be_bytes()].concat();
        let payload = [&numbers, self.kind.as_str().as_bytes()].concat();
        let [.., a, b, c] = payload.len().to_be_bytes();
        [&[a, b, c, GOAWAY, 0, 0, 0, 0, 0][..], &payload].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goaway_has_the_length_that_it_says() {
        for kind in [FloodKind::Frames, FloodKind::Resets] {
            let frame = Flood { kind, last_stream: 7 }.goaway();
            let [a, b, c, _, _, _, _, _, _, payload @ ..] = &frame[..] else { panic!("a head") };
            assert_eq!(u32::from_be_bytes([0, *a, *b, *c]) as usize, payload.len());
            assert!(payload.ends_with(kind.as_str().as_bytes()));
        }
    }
}
