//! The schemas have exactly the fields that are read.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::raw::{RawKey, RawKeysFile, RawProbe, RawRetry, RawRoute, RawRoutesFile};
use super::super::raw::{RawTimeouts, RawUpstream};
use super::super::schema::Document;
use super::super::settings::SettingsFile;

/// The fields that serde knows: it names them all to whoever writes another one.
fn read<T: serde::de::DeserializeOwned>() -> BTreeSet<String> {
    let Err(error) = serde_yaml::from_str::<T>("no such field: 1") else { panic!("it was taken") };
    let error = error.to_string();
    let (_, expected) = error.split_once(", expected ").unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The fields of the object that `pointer` leads to; each says what it is for.
fn described(document: Document, pointer: &str) -> BTreeSet<String> {
    let schema: Value = serde_json::from_str(&document.schema()).unwrap();
    let object = schema.pointer(pointer).unwrap();
    assert_eq!(object["additionalProperties"], false, "{pointer}");
    assert_eq!(object["patternProperties"]["^x-"], true, "{pointer}");
    let fields = object["properties"].as_object().unwrap();
    for (name, field) in fields {
        let description = field["description"].as_str().unwrap_or_default();
        assert!(description.ends_with('.') && !description.contains('\n'), "{name}: {description}");
    }
    fields.keys().cloned().collect()
}

#[test]
fn every_field_that_is_read_is_described_and_no_other() {
    use Document::{Keys, Routes, Server};
    assert_eq!(read::<RawRoutesFile>(), described(Routes, ""));
    assert_eq!(read::<RawRoute>(), described(Routes, "/$defs/Route"));
    assert_eq!(read::<RawUpstream>(), described(Routes, "/$defs/Upstream"));
    assert_eq!(read::<RawTimeouts>(), described(Routes, "/$defs/Timeouts"));
    assert_eq!(read::<RawProbe>(), described(Routes, "/$defs/Health"));
    assert_eq!(read::<RawRetry>(), described(Routes, "/$defs/Retry"));
    assert_eq!(read::<RawKeysFile>(), described(Keys, ""));
    assert_eq!(read::<RawKey>(), described(Keys, "/$defs/Key"));
    assert_eq!(read::<SettingsFile>(), described(Server, ""));
    let settings = super::SETTINGS.iter().map(|setting| setting.name.to_owned()).collect();
    assert_eq!(described(Server, ""), settings);
}
