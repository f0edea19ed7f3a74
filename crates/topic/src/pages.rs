//! A growing list whose elements stay where they are.
//!
//! A vector that doubles moves everything at once: with a million nodes that is a pause of tens of milliseconds for
//! whoever waits for the lock, and up to half of the room is never used. Here growth costs one page at a time.
//!
//! Deliberately absent: removal. The trie links vacant nodes and fills them again.

use core::ops::{Index, IndexMut};

/// Elements per page. The first page grows like any vector, so a short list is small.
const PAGE: usize = 256;

/// Elements by a `u32` index.
pub(crate) struct Pages<T> {
    /// All full but the last.
    pages: Vec<Vec<T>>,
}

impl<T> Pages<T> {
    /// A list of one element.
    pub(crate) fn of(first: T) -> Self {
        Self {
            pages: vec![vec![first]],
        }
    }

    /// Appends `value` and returns its index.
    pub(crate) fn push(&mut self, value: T) -> u32 {
        let last = self.pages.len() - 1;
        let page = &mut self.pages[last];
        if page.len() < PAGE {
            page.push(value);
            (last * PAGE + page.len() - 1) as u32
        } else {
            let mut page = Vec::with_capacity(PAGE);
            page.push(value);
            self.pages.push(page);
            ((last + 1) * PAGE) as u32
        }
    }

    /// The elements in order of their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten()
    }
}

impl<T> Index<u32> for Pages<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.pages[index as usize / PAGE][index as usize % PAGE]
    }
}

impl<T> IndexMut<u32> for Pages<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.pages[index as usize / PAGE][index as usize % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_index_across_pages() {
        let mut list = Pages::of(0);
        for value in 1..3 * PAGE {
            assert_eq!(list.push(value) as usize, value);
        }
        list[PAGE as u32] = 7;
        assert_eq!(list[PAGE as u32], 7);
        assert_eq!(list[PAGE as u32 - 1], PAGE - 1);
        assert_eq!(list.iter().count(), 3 * PAGE);
        assert_eq!(list.iter().last(), Some(&(3 * PAGE - 1)));
    }
}
