//! Finds the lines of paths: the document is walked once more, down to the nodes that problems speak of.
//!
//! serde_yaml keeps no positions in its values. It does fill the position of a node into any error raised while that
//! node is visited, so the walk raises one at each node it looks for, reads the position, and goes on.

use std::collections::HashMap;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::problem::Location;
use super::report::{Place, Step};

/// The text of the walk's own errors: the position follows it.
const MARK: &str = "\u{1}here";

/// The place of each of `nodes` in `text`, or of the nearest node above it that stands there.
pub(super) fn locate(text: &str, nodes: &[(&[Step], Place)]) -> Vec<Option<Location>> {
    let mut root = Target::default();
    for (steps, _) in nodes {
        let mut target = &mut root;
        for step in *steps {
            target = target.below.entry(step.clone()).or_default();
        }
    }
    // An error here ends the walk early: what was found until then is still true.
    match (Walk { target: &mut root }).deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(first) => root.found.push(Found { key: None, value: first }),
        Err(error) => root.found.push(Found { key: None, value: location_of(&error) }),
    }
    nodes.iter().map(|(steps, place)| root.place_of(steps, *place)).collect()
}

/// A node to be found, and those below it.
#[derive(Default)]
struct Target {
    below: HashMap<Step, Target>,
    /// Each time it was met: more than once where a key is repeated.
    found: Vec<Found>,
}

/// One meeting with a node.
struct Found {
    key: Option<Location>,
    value: Option<Location>,
}

impl Target {
    fn place_of(&self, steps: &[Step], wanted: Place) -> Option<Location> {
        let (mut target, mut place) = (self, self.here(Place::Value));
        for (depth, step) in steps.iter().enumerate() {
            let Some(below) = target.below.get(step) else { break };
            let wanted = if depth + 1 == steps.len() { wanted } else { Place::Value };
            // A key that came by a merge stands elsewhere: the entry that it was merged into is the next best.
            place = below.here(wanted).or(place);
            target = below;
        }
        place
    }

    fn here(&self, place: Place) -> Option<Location> {
        let first = self.found.first()?;
        match place {
            Place::Value => first.value.or(first.key),
            Place::Key => first.key.or(first.value),
            Place::Repeat => self.found.get(1).unwrap_or(first).key,
        }
    }
}

/// The position in an error of the walk itself; none for any other error.
fn location_of(error: &impl std::fmt::Display) -> Option<Location> {
    let text = error.to_string();
    let (_, position) = text.rsplit_once(MARK)?;
    // The very first character of a document is told by saying nothing.
    let Some(position) = position.strip_prefix(" at line ") else {
        return Some(Location { line: 1, column: 1 });
    };
    let (line, column) = position.split_once(" column ")?;
    Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })
}

/// Visits the node of a target. A scalar ends in an error that carries its position; a map or list is walked to its
/// end, as the deserializer must not lose its place, and yields where its first key stands.
struct Walk<'t> {
    target: &'t mut Target,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<Location>;

    fn deserialize<D: Deserializer<'de>>(self, node: D) -> Result<Self::Value, D::Error> {
        node.deserialize_any(self)
    }
}

/// Scalars of every type are told the same way.
macro_rules! marks {
    ($($visit:ident($type:ty)),+) => {
        $(fn $visit<E: Error>(self, _: $type) -> Result<Self::Value, E> {
            Err(E::custom(MARK))
        })+
    };
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<Location>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    marks!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Err(E::custom(MARK))
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Err(E::custom(MARK))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut first = None;
        loop {
            let mut key = String::new();
            let place = match map.next_key_seed(KeyText(&mut key)) {
                Ok(None) => return Ok(first),
                Ok(Some(())) => None,
                Err(error) => Some(location_of(&error).ok_or(error)?),
            };
            first = first.or(place);
            let Some(below) = self.target.below.get_mut(&Step::Key(key)) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = match map.next_value_seed(Walk { target: below }) {
                // A map or list under a key is best told by that key.
                Ok(_) => place,
                Err(error) => Some(location_of(&error).ok_or(error)?),
            };
            below.found.push(Found { key: place, value });
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        for index in 0.. {
            let Some(below) = self.target.below.get_mut(&Step::Index(index)) else {
                match list.next_element::<IgnoredAny>()? {
                    Some(_) => continue,
                    None => break,
                }
            };
            let value = match list.next_element_seed(Walk { target: below }) {
                Ok(None) => break,
                Ok(Some(first)) => first,
                Err(error) => Some(location_of(&error).ok_or(error)?),
            };
            below.found.push(Found { key: None, value });
        }
        Ok(None)
    }
}

/// Takes a key's text and then raises the error that tells its position.
struct KeyText<'t>(&'t mut String);

impl<'de> DeserializeSeed<'de> for KeyText<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<(), D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyText<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        Err(E::custom(MARK))
    }
}
