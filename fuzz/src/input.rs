//! Decisions, read off the bytes of an input.

/// Where the bytes end, every decision is the first of its choices, and every number
/// is 0.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    pub(crate) fn number(&mut self) -> u32 {
        let mut number = [0; 4];
        let given = self.bytes(4);
        number[..given.len()].copy_from_slice(given);
        u32::from_be_bytes(number)
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// As many as there are, if there are fewer.
    pub(crate) fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (given, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        given
    }

    /// A byte says how many.
    pub(crate) fn some_bytes(&mut self) -> &'a [u8] {
        let n = usize::from(self.byte());
        self.bytes(n)
    }
}
