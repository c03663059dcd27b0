//! Samples become the bytes of a WAV file of any kind, written by hand so that each field can also be wrong.

/// Format tags of the `fmt` chunk.
pub(crate) const PCM: u16 = 1;
pub(crate) const FLOAT: u16 = 3;
pub(crate) const A_LAW: u16 = 6;
pub(crate) const MU_LAW: u16 = 7;
pub(crate) const EXTENSIBLE: u16 = 0xFFFE;

/// What a `fmt` chunk says.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// Format tag.
    pub(crate) tag: u16,
    /// Channels.
    pub(crate) channels: u16,
    /// Samples per second, in Hz.
    pub(crate) rate: u32,
    /// Bits per sample.
    pub(crate) bits: u16,
}

impl Format {
    /// Mono PCM of 16 bits at 16 kHz.
    pub(crate) const USUAL: Self = Self { tag: PCM, channels: 1, rate: 16_000, bits: 16 };

    /// The 16 bytes that every `fmt` chunk begins with.
    pub(crate) fn fields(self, order: Order) -> Vec<u8> {
        let block = self.channels.wrapping_mul(self.bits / 8);
        let mut bytes = Vec::new();
        bytes.extend(order.u16(self.tag));
        bytes.extend(order.u16(self.channels));
        bytes.extend(order.u32(self.rate));
        bytes.extend(order.u32(self.rate.wrapping_mul(u32::from(block))));
        bytes.extend(order.u16(block));
        bytes.extend(order.u16(self.bits));
        bytes
    }

    /// The 18-byte form, with an empty extension.
    pub(crate) fn fields_18(self) -> Vec<u8> {
        [self.fields(Order::Little), vec![0, 0]].concat()
    }

    /// The 40-byte EXTENSIBLE form; `self.tag` becomes the beginning of the sub-format's GUID.
    pub(crate) fn fields_extensible(self) -> Vec<u8> {
        let mut bytes = Self { tag: EXTENSIBLE, ..self }.fields(Order::Little);
        bytes.extend(22_u16.to_le_bytes());
        bytes.extend(self.bits.to_le_bytes());
        // Speakers: front centre for one channel, front left and right for two.
        bytes.extend(if self.channels == 1 { 4_u32 } else { 3 }.to_le_bytes());
        bytes.extend(self.tag.to_le_bytes());
        bytes.extend(*b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71");
        bytes
    }
}

/// Which byte comes first.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }
}

/// A chunk: its name, its length, its bytes, and a zero byte behind an odd length.
pub(crate) fn chunk(order: Order, name: &[u8; 4], bytes: &[u8]) -> Vec<u8> {
    let mut out = chunk_saying(order, name, bytes.len() as u32, bytes);
    if bytes.len() % 2 == 1 {
        out.push(0);
    }
    out
}

/// A chunk whose length field says `length` whatever is behind it.
pub(crate) fn chunk_saying(order: Order, name: &[u8; 4], length: u32, bytes: &[u8]) -> Vec<u8> {
    [&name[..], &order.u32(length), bytes].concat()
}

/// A file of the given chunks, its length field right.
pub(crate) fn riff(order: Order, chunks: &[Vec<u8>]) -> Vec<u8> {
    let length = 4 + chunks.iter().map(Vec::len).sum::<usize>() as u32;
    riff_saying(order, length, chunks)
}

/// A file of the given chunks whose length field says `length`.
pub(crate) fn riff_saying(order: Order, length: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let name = match order {
        Order::Little => b"RIFF",
        Order::Big => b"RIFX",
    };
    [&name[..], &order.u32(length), b"WAVE", &chunks.concat()].concat()
}

/// The ordinary file: `fmt` and `data`.
pub(crate) fn wav(fields: &[u8], data: &[u8]) -> Vec<u8> {
    let order = Order::Little;
    riff(order, &[chunk(order, b"fmt ", fields), chunk(order, b"data", data)])
}

/// RF64 (EBU Tech 3306) or BW64 (ITU-R BS.2088): 32-bit lengths of all ones, the true ones in `ds64`.
pub(crate) fn wav_64(name: &[u8; 4], fields: &[u8], data: &[u8], samples: u64) -> Vec<u8> {
    let order = Order::Little;
    let fmt = chunk(order, b"fmt ", fields);
    let body = [fmt, chunk_saying(order, b"data", u32::MAX, data)].concat();
    let mut sizes = Vec::new();
    // The form type, the ds64 chunk of 8 + 28 bytes, and the rest.
    sizes.extend((4 + 36 + body.len() as u64).to_le_bytes());
    sizes.extend((data.len() as u64).to_le_bytes());
    sizes.extend(samples.to_le_bytes());
    sizes.extend(0_u32.to_le_bytes());
    [&name[..], &u32::MAX.to_le_bytes(), b"WAVE", &chunk(order, b"ds64", &sizes), &body].concat()
}

/// Sony's Wave64: names are GUIDs, lengths are 64 bits and count the 24 bytes before the content, and chunks
/// begin at multiples of eight.
pub(crate) fn wave_64(fields: &[u8], data: &[u8]) -> Vec<u8> {
    const RIFF: &[u8; 16] = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00";
    const REST: &[u8; 12] = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";
    let part = |name: &[u8; 4], bytes: &[u8]| {
        let mut out = [&name[..], REST, &(24 + bytes.len() as u64).to_le_bytes(), bytes].concat();
        out.resize(out.len().next_multiple_of(8), 0);
        out
    };
    let body = [part(b"fmt ", fields), part(b"data", data)].concat();
    let length = 16 + 8 + 16 + body.len() as u64;
    [&RIFF[..], &length.to_le_bytes(), b"wave", REST, &body].concat()
}

/// Unsigned 8-bit samples.
pub(crate) fn unsigned_8(samples: &[i16]) -> Vec<u8> {
    samples.iter().map(|&s| ((i32::from(s) + 32_768 + 128).min(65_535) >> 8) as u8).collect()
}

/// 16-bit samples.
pub(crate) fn signed_16(order: Order, samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|&s| order.u16(s as u16)).collect()
}

/// 24-bit samples of the same value: the low byte is zero.
pub(crate) fn signed_24(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|&s| [0, s as u8, (s >> 8) as u8]).collect()
}

/// 32-bit samples of the same value: the low half is zero.
pub(crate) fn signed_32(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|&s| (i32::from(s) << 16).to_le_bytes()).collect()
}

/// 32-bit floats within ±1.
pub(crate) fn float_32(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|&s| (f32::from(s) / 32_768.0).to_le_bytes()).collect()
}

/// 64-bit floats within ±1.
pub(crate) fn float_64(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|&s| (f64::from(s) / 32_768.0).to_le_bytes()).collect()
}

/// ITU-T G.711 A-law: sign, three bits of exponent, four of mantissa, every other bit inverted.
pub(crate) fn a_law(samples: &[i16]) -> Vec<u8> {
    samples
        .iter()
        .map(|&s| {
            let sign = if s >= 0 { 0x80 } else { 0 };
            // 13 bits of magnitude; one's complement makes the two halves alike.
            let size = (if s >= 0 { s } else { !s }) >> 3;
            let exponent = (16 - size.leading_zeros()).saturating_sub(5);
            let mantissa = if exponent == 0 { size >> 1 } else { size >> exponent } & 0x0f;
            (sign | (exponent as u8) << 4 | mantissa as u8) ^ 0x55
        })
        .collect()
}

/// ITU-T G.711 µ-law: a bias of 33, then as above with all bits inverted.
pub(crate) fn mu_law(samples: &[i16]) -> Vec<u8> {
    samples
        .iter()
        .map(|&s| {
            let sign = if s < 0 { 0x80 } else { 0 };
            let size = ((i32::from(s).abs() >> 2) + 33).min(8_191);
            let exponent = 31 - size.leading_zeros() - 5;
            let mantissa = (size >> (exponent + 1)) & 0x0f;
            !(sign | (exponent as u8) << 4 | mantissa as u8)
        })
        .collect()
}
