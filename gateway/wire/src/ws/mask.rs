//! Masking, eight bytes at a time (RFC 6455 section 5.3).

/// XORs `bytes` with the mask, whose first byte belongs to the payload's byte 0; `at` is the place of `bytes` within
/// the payload. Masking twice gives the original.
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4], at: usize) {
    let mut mask = mask;
    mask.rotate_left(at % 4);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(word) = <&mut [u8; 8]>::try_from(chunk) {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
    }
    for (byte, mask) in chunks
        .into_remainder()
        .iter_mut()
        .zip([a, b, c, d, a, b, c])
    {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definition_at_every_length_and_place() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for at in 0..9_usize {
            for len in 0..40 {
                let mut bytes = vec![0x55_u8; len];
                apply_mask(&mut bytes, mask, at);
                let naive: Vec<u8> = (0..len).map(|i| 0x55 ^ mask[(at + i) % 4]).collect();
                assert_eq!(bytes, naive, "at {at}, {len} bytes");
            }
        }
    }
}
