//! Where an upstream, a route or a key comes from.

use super::at::Step;

/// What an upstream, a route or a key was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// An entry of a file's list, from 0: of `routes`, also for an upstream that a short route implies; of `keys`.
    Entry(usize),
    /// An entry of `upstreams`, under its own name.
    Named,
    /// A variable of the environment.
    Variable(&'static str),
    /// A flag.
    Flag(&'static str),
}

impl Declared {
    /// The variable or flag, where it is one.
    pub(super) fn outside(self) -> Option<String> {
        match self {
            Self::Entry(_) | Self::Named => None,
            Self::Variable(name) => Some(format!("environment {name}")),
            Self::Flag(name) => Some(format!("flag {name}")),
        }
    }

    /// The way to the entry in its file, which holds it in `list` or, under its name, in `upstreams`.
    pub(super) fn steps(self, list: &str, name: &str) -> Option<Vec<Step>> {
        match self {
            Self::Entry(index) => Some(vec![Step::Key(list.to_owned()), Step::Index(index)]),
            Self::Named => {
                Some(vec![Step::Key("upstreams".to_owned()), Step::Key(name.to_owned())])
            }
            Self::Variable(_) | Self::Flag(_) => None,
        }
    }
}
