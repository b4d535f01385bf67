//! How long a sound is, as far as its first bytes tell.

/// Bytes of a second where the container does not tell: 128 kbit/s, the rate of most MP3s.
const BYTES_OF_A_SECOND: f64 = 16_000.0;

/// What a file holds.
#[derive(Debug, PartialEq)]
pub(super) struct Sound {
    /// The container's short name.
    pub(super) container: &'static str,
    /// Not below 0, and finite.
    pub(super) seconds: f64,
}

impl Sound {
    /// The sound in `file`; none if it is in no container that vLLM knows.
    pub(super) fn in_file(file: &[u8]) -> Option<Self> {
        if file.starts_with(b"RIFF") {
            return Some(Self { container: "wav", seconds: wave_seconds(file)? });
        }
        let container = match file {
            [b'f', b'L', b'a', b'C', ..] => "flac",
            [b'O', b'g', b'g', b'S', ..] => "ogg",
            [b'I', b'D', b'3', ..] | [0xff, 0xe0..=0xff, ..] => "mp3",
            [0x1a, 0x45, 0xdf, 0xa3, ..] => "webm",
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => "mp4",
            _ => return None,
        };
        Some(Self { container, seconds: file.len() as f64 / BYTES_OF_A_SECOND })
    }
}

/// The length of a WAV: bytes of its samples by bytes of a second.
fn wave_seconds(file: &[u8]) -> Option<f64> {
    if file.get(8..12)? != b"WAVE" {
        return None;
    }
    let (mut at, mut rate) = (12, 0);
    loop {
        let name = file.get(at..at + 4)?;
        let size = number(file, at + 4)?;
        let content = at + 8;
        match name {
            b"fmt " => rate = number(file, content + 8)?,
            b"data" if rate > 0 => {
                // Who writes while recording does not know the size: what is there counts.
                let bytes = (file.len() - content).min(size as usize);
                return Some(bytes as f64 / f64::from(rate));
            }
            _ => {}
        }
        // Chunks begin at even places.
        at = content.checked_add(size as usize)?.checked_add(size as usize % 2)?;
    }
}

fn number(file: &[u8], at: usize) -> Option<u32> {
    let bytes = file.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8,000 samples a second, 2 bytes each.
    fn wave(data: usize, size: u32) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0\x01\0\x01\0".to_vec();
        file.extend(8_000_u32.to_le_bytes());
        file.extend(16_000_u32.to_le_bytes());
        file.extend(b"\x02\0\x10\0data");
        file.extend(size.to_le_bytes());
        file.resize(file.len() + data, 7);
        file
    }

    #[test]
    fn a_wave_tells_its_length() {
        let seconds = |file: &[u8]| Sound::in_file(file).map(|sound| sound.seconds);
        assert_eq!(seconds(&wave(24_000, 24_000)), Some(1.5));
        assert_eq!(seconds(&wave(8_000, u32::MAX)), Some(0.5));
        assert_eq!(seconds(&wave(0, 0)), Some(0.0));
    }

    #[test]
    fn what_is_cut_or_no_sound_has_none() {
        let whole = wave(0, 0);
        for end in 0..whole.len() {
            assert_eq!(Sound::in_file(&whole[..end]), None, "{end}");
        }
        assert_eq!(Sound::in_file(b"just a text"), None);
        assert_eq!(Sound::in_file(b"fLaC").map(|sound| sound.container), Some("flac"));
        assert_eq!(Sound::in_file(b"\0\0\0\x18ftypM4A ").map(|sound| sound.container), Some("mp4"));
    }
}
