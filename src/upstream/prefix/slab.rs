//! Values by id, in memory that was asked for once.

/// At most `room` of them.
#[derive(Debug)]
pub(super) struct Slab<T> {
    values: Vec<T>,
    free: Vec<u32>,
    room: usize,
}

impl<T> Slab<T> {
    /// Bytes for each value that it has room for.
    pub(super) const BYTES_EACH: usize = size_of::<T>() + size_of::<u32>();

    pub(super) fn new(room: usize) -> Self {
        Self { values: Vec::with_capacity(room), free: Vec::with_capacity(room), room }
    }

    pub(super) fn used(&self) -> usize {
        self.values.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.used() == self.room
    }

    pub(super) fn get(&self, id: u32) -> &T {
        &self.values[id as usize]
    }

    pub(super) fn get_mut(&mut self, id: u32) -> &mut T {
        &mut self.values[id as usize]
    }

    /// Adds a value where it is not full.
    pub(super) fn add(&mut self, value: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self.values[id as usize] = value;
            return id;
        }
        self.values.push(value);
        u32::try_from(self.values.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn remove(&mut self, id: u32) {
        self.free.push(id);
    }
}
