//! Reads values that somebody else may have made as long as Redis can hold.

use std::sync::LazyLock;

use super::{Link, LinkError, Repeat, Script};

/// Where a value is in its key.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// The key is a string.
    Whole,
    /// The field of a hash that has this name.
    Field(&'static str),
}

/// How many values are read in one request, and how many bytes.
const AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 8 * 1024 * 1024;

static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::reading(
        "
local values = {}
for place, key in ipairs(KEYS) do
  values[place] = short(look(ARGV[2], key, unpack(ARGV, 3)), ARGV[1])
end
return values
",
    )
});

impl Link {
    /// Reads these keys, which share a slot. What is of another type counts as missing. Of a value that is longer than
    /// `most` bytes, only the first `most` and one more are read.
    ///
    /// # Errors
    ///
    /// As [`Link::command`].
    pub async fn read(
        &self,
        keys: &[String],
        place: Place,
        most: usize,
    ) -> Result<Vec<Option<Vec<u8>>>, LinkError> {
        let mut values = Vec::with_capacity(keys.len());
        let at_once = (BYTES_AT_ONCE / most.max(1)).clamp(1, AT_ONCE);
        for some in keys.chunks(at_once) {
            values.extend(self.read_some(some, place, most).await?);
        }
        Ok(values)
    }

    async fn read_some(
        &self,
        keys: &[String],
        place: Place,
        most: usize,
    ) -> Result<Vec<Option<Vec<u8>>>, LinkError> {
        let Some((first, others)) = keys.split_first() else { return Ok(Vec::new()) };
        let call = others.iter().fold(READ.on(first.as_str()), |call, key| call.key(key.as_str()));
        let call = call.arg(most.saturating_add(1));
        let call = match place {
            Place::Whole => call.arg("GET"),
            Place::Field(name) => call.arg("HGET").arg(name),
        };
        let values: Vec<Vec<u8>> = self.script(&call, Repeat::Once).await?;
        Ok(values.into_iter().map(|value| Some(value).filter(|value| !value.is_empty())).collect())
    }
}
