//! Where a value stands in a document.

/// A step of a path into a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The value under this key.
    Key(String),
    /// The value at this place of a list, from 0.
    Index(usize),
}

impl Step {
    /// The key, if it is one.
    pub(super) fn field(&self) -> Option<String> {
        match self {
            Self::Key(key) => Some(key.clone()),
            Self::Index(_) => None,
        }
    }
}

/// Where a check is in a document: a chain on the stack, so that a file without problems costs no allocation.
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    /// The document.
    Root,
    /// The value under a key.
    Key(&'a At<'a>, &'a str),
    /// The value at a place of a list.
    Index(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    /// The value under `key`.
    pub(super) fn key(&'a self, key: &'a str) -> At<'a> {
        At::Key(self, key)
    }

    /// The value at `index`.
    pub(super) fn index(&'a self, index: usize) -> At<'a> {
        At::Index(self, index)
    }

    /// The path from the document down.
    pub(super) fn steps(&self) -> Vec<Step> {
        let (mut steps, mut here) = (Vec::new(), self);
        loop {
            match here {
                At::Root => break,
                At::Key(parent, key) => {
                    steps.push(Step::Key((*key).to_owned()));
                    here = parent;
                }
                At::Index(parent, index) => {
                    steps.push(Step::Index(*index));
                    here = parent;
                }
            }
        }
        steps.reverse();
        steps
    }
}
