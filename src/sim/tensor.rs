//! What a model would make of a text: vectors of length one, alike for texts that share tokens.

use serde_json::Value;

/// Numbers of a vector: one for each bit of a token's hash.
pub(super) const DIMENSIONS: usize = 64;

/// What a classifier calls its classes when it was told no names.
pub(super) const CLASSES: [&str; 2] = ["LABEL_0", "LABEL_1"];

/// A vector, or one for each token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tensor {
    /// `[..]`
    Row(Vec<f32>),
    /// `[[..], ..]`
    Rows(Vec<Vec<f32>>),
}

impl Tensor {
    /// As JSON.
    pub(super) fn json(&self) -> String {
        // As Python shows it, which knows no numbers of 32 bits.
        let list = |row: &Vec<f32>| row.iter().map(|number| f64::from(*number)).collect();
        match self {
            Self::Row(row) => list(row),
            Self::Rows(rows) => rows.iter().map(list).collect::<Value>(),
        }
        .to_string()
    }

    /// All numbers one after the other, 4 bytes each.
    pub(super) fn bytes(&self, big_endian: bool) -> Vec<u8> {
        let rows = match self {
            Self::Row(row) => std::slice::from_ref(row),
            Self::Rows(rows) => rows,
        };
        let numbers = rows.iter().flatten();
        numbers.flat_map(|n| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() }).collect()
    }

    /// The length of each dimension, as JSON with spaces.
    pub(super) fn shape(&self) -> String {
        match self {
            Self::Row(row) => format!("[{}]", row.len()),
            Self::Rows(rows) => format!("[{}, {}]", rows.len(), rows.first().map_or(0, Vec::len)),
        }
    }
}

/// The vector of a text: the same tokens in any order have the same.
pub(super) fn vector(ids: &[u32]) -> Vec<f32> {
    let mut sum = vec![0.0; DIMENSIONS];
    for id in ids {
        let bits = mixed(u64::from(*id));
        for (place, number) in sum.iter_mut().enumerate() {
            *number += if bits >> place & 1 == 1 { 1.0 } else { -1.0 };
        }
    }
    of_length_one(sum)
}

/// The same vector with its first numbers alone, as models of the Matryoshka kind allow.
pub(super) fn shortened(mut vector: Vec<f32>, dimensions: usize) -> Vec<f32> {
    vector.truncate(dimensions);
    of_length_one(vector)
}

/// From -1 to 1: the cosine of the angle between two vectors of length one.
pub(super) fn likeness(one: &[f32], other: &[f32]) -> f64 {
    let cosine: f32 = one.iter().zip(other).map(|(a, b)| a * b).sum();
    f64::from(cosine.clamp(-1.0, 1.0))
}

/// How likely each of [`CLASSES`] is.
pub(super) fn classes(ids: &[u32]) -> Vec<f32> {
    let vector = vector(ids);
    let weights = [vector[0].exp(), vector[1].exp()];
    weights.iter().map(|weight| weight / (weights[0] + weights[1])).collect()
}

fn of_length_one(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|number| *number /= length);
    } else if let Some(first) = vector.first_mut() {
        // Tokens that cancel each other out.
        *first = 1.0;
    }
    vector
}

/// splitmix64's last step: ids that are near each other have nothing in common after it.
fn mixed(id: u64) -> u64 {
    let mut z = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_share_tokens_are_alike() {
        let (a, near, far) = (vector(&[1, 2, 3, 4]), vector(&[1, 2, 3, 9]), vector(&[7, 8, 9]));
        assert!((likeness(&a, &a) - 1.0).abs() < 1e-6);
        assert!(likeness(&a, &near) > likeness(&a, &far), "{a:?} {near:?} {far:?}");
    }

    #[test]
    fn what_is_shortened_is_of_length_one_again() {
        for dimensions in [1, 7, DIMENSIONS] {
            let short = shortened(vector(&[1, 2, 3]), dimensions);
            assert_eq!(short.len(), dimensions);
            assert!((likeness(&short, &short) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn numbers_are_written_in_the_order_asked_for() {
        let tensor = Tensor::Row(vec![1.0, -0.5]);
        assert_eq!(tensor.json(), "[1.0,-0.5]");
        assert_eq!(tensor.bytes(false), [0, 0, 128, 63, 0, 0, 0, 191]);
        assert_eq!(tensor.bytes(true), [63, 128, 0, 0, 191, 0, 0, 0]);
        assert_eq!(Tensor::Rows(vec![vec![0.0; 3]; 2]).shape(), "[2, 3]");
    }
}
