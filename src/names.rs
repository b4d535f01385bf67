//! Words of the domain, each a type of its own, so that a key's name is never taken for a model's.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Makes a cheap-to-clone name: one shared string, compared and hashed by its text.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`{}`", self.0)
            }
        }
    };
}

name! {
    /// A model as callers and nodes write it: `llama-3.1-8b`, `org/model`, `ollama:qwen`.
    ModelName
}

/// Bytes of a model's name: a path in a file system is seldom longer.
pub const MODEL_BYTES_MAX: usize = 256;

impl ModelName {
    /// False for what no model is called: more than [`MODEL_BYTES_MAX`], or with control characters, which logs and
    /// terminals take for something else. Spaces and letters of every alphabet may be in a name: vLLM serves under any.
    pub fn is_sound(&self) -> bool {
        self.0.len() <= MODEL_BYTES_MAX && !self.0.chars().any(char::is_control)
    }
}

name! {
    /// What a key is called in logs and metrics. Never the key itself.
    KeyName
}
name! {
    /// A node's URL, as configured: what it is known by over reloads.
    NodeId
}
name! {
    /// An upstream's name in `routes.yaml`, or `host:port` for one made by the short form.
    UpstreamName
}
