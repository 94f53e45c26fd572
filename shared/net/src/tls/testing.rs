//! Spoils DER and text. DER is changed where its structure is, so that what reads it comes further than to the first length
//! that is wrong.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Octets that say what is changed.
pub const CHANGE: usize = 4;

/// `der` with these changes: of octets, or of elements with all lengths around them right again.
#[must_use]
pub fn spoil(der: &[u8], changes: &[[u8; CHANGE]]) -> Vec<u8> {
    let mut bytes = der.to_vec();
    for [kind, high, low, value] in changes {
        let place = usize::from(u16::from_be_bytes([*high, *low]));
        bytes = match Element::all(&bytes) {
            Some(elements) if kind % 8 >= 3 => {
                let mut place = place % count(&elements).max(1);
                encode(&edit(elements, &mut place, kind % 8, *value))
            }
            _ => flip(bytes, place, *kind, *value),
        };
    }
    bytes
}

/// `text` with octets changed, added or cut off.
#[must_use]
pub fn blur(text: &str, changes: &[[u8; CHANGE]]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for [kind, high, low, value] in changes {
        let place = usize::from(u16::from_be_bytes([*high, *low]));
        bytes = flip(bytes, place, *kind, *value);
    }
    bytes
}

/// DER of any kind, as a block of PEM text.
#[must_use]
pub fn block(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

fn flip(mut bytes: Vec<u8>, place: usize, kind: u8, value: u8) -> Vec<u8> {
    let place = place % bytes.len().max(1);
    match kind % 3 {
        0 => bytes.truncate(place),
        1 => bytes.insert(place, value),
        _ => {
            if let Some(octet) = bytes.get_mut(place) {
                *octet ^= value.max(1);
            }
        }
    }
    bytes
}

#[derive(Clone)]
struct Element {
    tag: u8,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Octets(Vec<u8>),
    Elements(Vec<Element>),
}

impl Element {
    /// All elements that `bytes` are made of; `None` when they are made of something else.
    fn all(mut bytes: &[u8]) -> Option<Vec<Self>> {
        let mut all = Vec::new();
        while let Some((tag, rest)) = bytes.split_first() {
            let (length, rest) = length(rest)?;
            let (content, rest) = rest.split_at_checked(length)?;
            bytes = rest;
            // Extensions are elements within octets.
            let is_nested = tag & 0x20 != 0 || *tag == 4;
            let elements = Self::all(content).filter(|_| is_nested && !content.is_empty());
            let content = match elements {
                Some(elements) => Content::Elements(elements),
                None => Content::Octets(content.to_vec()),
            };
            all.push(Self { tag: *tag, content });
        }
        Some(all)
    }
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        return Some((usize::from(*first), rest));
    }
    let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
    let length = octets.iter().try_fold(0_usize, |length, octet| {
        Some(length.checked_mul(256)? + usize::from(*octet))
    });
    Some((length?, rest))
}

fn encode(elements: &[Element]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Element { tag, content } in elements {
        let content = match content {
            Content::Octets(octets) => octets.clone(),
            Content::Elements(elements) => encode(elements),
        };
        bytes.push(*tag);
        let length = content.len().to_be_bytes();
        let short = length.iter().skip_while(|octet| **octet == 0).count();
        if content.len() >= 0x80 {
            bytes.push(0x80 | short as u8);
        }
        let octets = &length[length.len() - short.max(1)..];
        bytes.extend_from_slice(octets);
        bytes.extend_from_slice(&content);
    }
    bytes
}

fn count(elements: &[Element]) -> usize {
    let of = |element: &Element| match &element.content {
        Content::Octets(_) => 1,
        Content::Elements(inner) => 1 + count(inner),
    };
    elements.iter().map(of).sum()
}

/// Changes the element at `place`, counted from the outside inwards; `place` is `usize::MAX` afterwards.
fn edit(elements: Vec<Element>, place: &mut usize, kind: u8, value: u8) -> Vec<Element> {
    let mut edited = Vec::new();
    for mut element in elements {
        let is_it = *place == 0;
        *place = place.wrapping_sub(1);
        if is_it {
            *place = usize::MAX;
            match kind {
                3 => continue,
                4 => edited.push(element.clone()),
                5 => element.tag = value,
                6 => element.content = Content::Octets(vec![value; usize::from(value) % 9]),
                _ => {
                    let content = Content::Elements(vec![element]);
                    element = Element { tag: 0x30, content };
                }
            }
        } else if *place != usize::MAX
            && let Content::Elements(inner) = element.content
        {
            element.content = Content::Elements(edit(inner, place, kind, value));
        }
        edited.push(element);
    }
    edited
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_the_same() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::default().self_signed(&key);
        let certificate = certificate.expect("signed");
        let elements = Element::all(certificate.der()).expect("DER");
        assert!(count(&elements) > 20);
        assert_eq!(encode(&elements), certificate.der().as_ref());
        for (place, kind) in [(usize::MAX, 3), (2, 5)] {
            let mut place = place;
            let edited = edit(elements.clone(), &mut place, kind, 0x7f);
            let same = encode(&edited) == certificate.der().as_ref();
            assert_eq!(same, kind == 3);
        }
    }
}
