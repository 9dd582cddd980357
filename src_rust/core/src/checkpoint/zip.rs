//! The records of a zip archive, as bytes: everything that has a field layout.
//!
//! Source: APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.

pub(super) const LOCAL: u32 = 0x0403_4b50;
pub(super) const DESCRIPTOR: u32 = 0x0807_4b50;
pub(super) const CENTRAL: u32 = 0x0201_4b50;
pub(super) const END: u32 = 0x0605_4b50;
pub(super) const END64: u32 = 0x0606_4b50;
pub(super) const LOCATOR64: u32 = 0x0706_4b50;

pub(super) const LOCAL_SIZE: usize = 30;
pub(super) const CENTRAL_SIZE: usize = 46;
pub(super) const END_SIZE: usize = 22;
pub(super) const END64_SIZE: usize = 56;
pub(super) const LOCATOR64_SIZE: usize = 20;

/// A 32-bit field that holds this says: look into the zip64 record.
pub(super) const SEE64: u32 = u32::MAX;
/// Extra field of zip64 sizes.
pub(super) const EXTRA64: u16 = 1;
/// Extra field that pads, the one that torch uses: "FB".
const EXTRA_PAD: u16 = 0x4246;

pub(super) const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;
/// 1 January 1980: files of the same content are equal.
const DATE: u16 = 0x21;

/// Tensors begin at multiples of this, as in torch's own files.
pub(super) const ALIGNMENT: u64 = 64;

/// What the directory says of an entry.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub name: String,
    pub crc: u32,
    pub size: u64,
    /// Of the local header.
    pub offset: u64,
    pub descriptor: bool,
}

impl Record {
    fn is_large(&self) -> bool {
        self.size >= u64::from(SEE64)
    }

    fn flags(&self) -> u16 {
        FLAG_UTF8 | if self.descriptor { FLAG_DESCRIPTOR } else { 0 }
    }

    fn sizes(&self) -> [u8; 4] {
        if self.is_large() { SEE64.to_le_bytes() } else { (self.size as u32).to_le_bytes() }
    }

    /// Header before the entry's bytes, padded so that these begin at a multiple of 64.
    pub fn local_header(&self, out: &mut Vec<u8>) {
        let fixed = LOCAL_SIZE + self.name.len() + if self.is_large() { 20 } else { 0 };
        let start = self.offset + fixed as u64 + 4;
        let padding = (ALIGNMENT - start % ALIGNMENT) % ALIGNMENT;
        let extra = 4 + padding as u16 + if self.is_large() { 20 } else { 0 };
        out.extend_from_slice(&LOCAL.to_le_bytes());
        self.common(out);
        out.extend_from_slice(&extra.to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
        if self.is_large() {
            out.extend_from_slice(&EXTRA64.to_le_bytes());
            out.extend_from_slice(&16u16.to_le_bytes());
            out.extend_from_slice(&self.size.to_le_bytes());
            out.extend_from_slice(&self.size.to_le_bytes());
        }
        out.extend_from_slice(&EXTRA_PAD.to_le_bytes());
        out.extend_from_slice(&(padding as u16).to_le_bytes());
        out.resize(out.len() + padding as usize, 0);
    }

    /// From "version needed" to the length of the name: the same in both headers.
    fn common(&self, out: &mut Vec<u8>) {
        let version: u16 = if self.is_large() { 45 } else { 20 };
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&self.flags().to_le_bytes());
        out.extend_from_slice(&[0, 0, 0, 0]); // stored; no time of day
        out.extend_from_slice(&DATE.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.extend_from_slice(&self.sizes());
        out.extend_from_slice(&self.sizes());
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
    }

    /// Follows the entry's bytes where their sum was not known before.
    pub fn data_descriptor(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&DESCRIPTOR.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        for _ in 0..2 {
            if self.is_large() {
                out.extend_from_slice(&self.size.to_le_bytes());
            } else {
                out.extend_from_slice(&(self.size as u32).to_le_bytes());
            }
        }
    }

    /// The entry's line in the directory.
    pub fn central_header(&self, out: &mut Vec<u8>) {
        let far = self.offset >= u64::from(SEE64);
        let extra = if self.is_large() { 16 } else { 0 } + if far { 8 } else { 0 };
        out.extend_from_slice(&CENTRAL.to_le_bytes());
        out.extend_from_slice(&45u16.to_le_bytes());
        self.common(out);
        out.extend_from_slice(&(if extra > 0 { extra + 4 } else { 0u16 }).to_le_bytes());
        out.extend_from_slice(&[0; 10]); // comment, disk, attributes
        out.extend_from_slice(&if far { SEE64 } else { self.offset as u32 }.to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
        if extra > 0 {
            out.extend_from_slice(&EXTRA64.to_le_bytes());
            out.extend_from_slice(&extra.to_le_bytes());
            if self.is_large() {
                out.extend_from_slice(&self.size.to_le_bytes());
                out.extend_from_slice(&self.size.to_le_bytes());
            }
            if far {
                out.extend_from_slice(&self.offset.to_le_bytes());
            }
        }
    }
}

/// The records after the directory.
pub(super) fn end(entries: u64, start: u64, size: u64, out: &mut Vec<u8>) {
    let far = entries >= u64::from(u16::MAX) || start >= u64::from(SEE64) || size >= u64::from(SEE64);
    if far {
        let position = start + size;
        out.extend_from_slice(&END64.to_le_bytes());
        out.extend_from_slice(&(END64_SIZE as u64 - 12).to_le_bytes());
        out.extend_from_slice(&45u16.to_le_bytes());
        out.extend_from_slice(&45u16.to_le_bytes());
        out.extend_from_slice(&[0; 8]); // disks
        for value in [entries, entries, size, start] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&LOCATOR64.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&position.to_le_bytes());
        out.extend_from_slice(&1u32.to_le_bytes());
    }
    let short = |value: u64| if far { SEE64 } else { value as u32 };
    out.extend_from_slice(&END.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let count = if far { u16::MAX } else { entries as u16 };
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&short(size).to_le_bytes());
    out.extend_from_slice(&short(start).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
}
