//! A guest of some hundred bytes that tells whether an accelerator really runs code.
//!
//! ```text
//! 64 KiB image, mapped so that it ends at 4 GiB
//! 0xff00  real mode: load the descriptor table, enter protected mode
//! 0xff40  protected mode: switch SSE on, count, compute 0x11 + 0x11 with vector registers
//! 0xffc0  descriptor table (3 entries), then its pointer
//! 0xfff0  reset vector: jump to 0xff00
//! ```
//!
//! The sum goes to the `isa-debug-exit` port, which makes QEMU end with `(sum << 1) | 1`. An
//! accelerator that emulates kernels instead of virtualising them (KVM's paravirtual `kvm_pvm`)
//! fails at the first vector instruction or crawls through the counting loop. Protected mode is
//! entered first, because sound but old CPUs emulate real mode.
//!
//! Encodings: Intel SDM volume 2; state after reset: volume 3, "Processor state after reset".

/// Bytes of the image: the smallest that QEMU takes as `-bios`.
pub(crate) const IMAGE_SIZE: usize = 64 * 1024;

/// Port of the exit device.
pub(crate) const EXIT_PORT: u8 = 0xf4;

/// Exit status of QEMU when the sum is right.
pub(crate) const GOOD_STATUS: i32 = ((SUMMAND as i32 * 2) << 1) | 1;

const SUMMAND: u8 = 0x11;

const REAL: u16 = 0xff00;
const PROTECTED: u16 = 0xff40;
const TABLE: u16 = 0xffc0;
const POINTER: u16 = TABLE + 3 * 8;
const RESET: u16 = 0xfff0;

/// Linear address of an offset in the image.
fn linear(offset: u16) -> [u8; 4] {
    (0xffff_0000 | u32::from(offset)).to_le_bytes()
}

/// The image.
pub(crate) fn image() -> Vec<u8> {
    let mut image = vec![0; IMAGE_SIZE];
    put(&mut image, REAL, &real_mode());
    put(&mut image, PROTECTED, &protected_mode());
    put(&mut image, TABLE, &descriptors());
    // jmp near REAL; the displacement counts from the next instruction.
    let displacement = REAL.wrapping_sub(RESET + 3).to_le_bytes();
    put(&mut image, RESET, &[&[0xe9][..], &displacement].concat());
    image
}

fn put(image: &mut [u8], at: u16, bytes: &[u8]) {
    let at = usize::from(at);
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

fn real_mode() -> Vec<u8> {
    let pointer = POINTER.to_le_bytes();
    [
        &[0xfa][..],                     // cli
        &[0x2e, 0x66, 0x0f, 0x01, 0x16], // lgdt cs:[...], 32-bit base
        &pointer,                        //      ... POINTER
        &[0x0f, 0x20, 0xc0],             // mov eax, cr0
        &[0x0c, 0x01],                   // or al, 1 (PE)
        &[0x0f, 0x22, 0xc0],             // mov cr0, eax
        &[0x66, 0xea],                   // jmp far 8:...
        &linear(PROTECTED),              //      ... PROTECTED
        &[0x08, 0x00],                   //
    ]
    .concat()
}

fn protected_mode() -> Vec<u8> {
    [
        &[0x66, 0xb8, 0x10, 0x00][..],      // mov ax, 0x10
        &[0x8e, 0xd8, 0x8e, 0xc0],          // mov ds, ax; mov es, ax
        &[0x8e, 0xd0],                      // mov ss, ax
        &[0x0f, 0x20, 0xe0],                // mov eax, cr4
        &[0x0d, 0x00, 0x06, 0x00, 0x00],    // or eax, OSFXSR | OSXMMEXCPT
        &[0x0f, 0x22, 0xe0],                // mov cr4, eax
        &[0x0f, 0x20, 0xc0],                // mov eax, cr0
        &[0x83, 0xe0, 0xf3],                // and eax, ~(EM | TS)
        &[0x83, 0xc8, 0x02],                // or eax, MP
        &[0x0f, 0x22, 0xc0],                // mov cr0, eax
        &[0xb9, 0xd0, 0x07, 0x00, 0x00],    // mov ecx, 2000
        &[0x49, 0x75, 0xfd],                // 1: dec ecx; jnz 1b
        &[0xb8, SUMMAND, 0x00, 0x00, 0x00], // mov eax, SUMMAND
        &[0x66, 0x0f, 0x6e, 0xc0],          // movd xmm0, eax
        &[0x66, 0x0f, 0x70, 0xc8, 0x00],    // pshufd xmm1, xmm0, 0
        &[0x66, 0x0f, 0xfe, 0xc8],          // paddd xmm1, xmm0
        &[0x66, 0x0f, 0x7e, 0xc8],          // movd eax, xmm1
        &[0xe7, EXIT_PORT],                 // out EXIT_PORT, eax
        &[0xf4, 0xeb, 0xfd],                // 1: hlt; jmp 1b
    ]
    .concat()
}

/// Null, flat code, flat data; then limit and linear address of the table for `lgdt`.
fn descriptors() -> Vec<u8> {
    [
        &[0; 8][..],
        &[0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0], // base 0, limit 4 GiB, code, readable, 32-bit
        &[0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0], // base 0, limit 4 GiB, data, writable, 32-bit
        &[3 * 8 - 1, 0],
        &linear(TABLE),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_runs_into_the_next() {
        let end = |start: u16, part: Vec<u8>| usize::from(start) + part.len();
        assert!(end(REAL, real_mode()) <= usize::from(PROTECTED));
        assert!(end(PROTECTED, protected_mode()) <= usize::from(TABLE));
        assert_eq!(end(TABLE, descriptors()), usize::from(POINTER) + 6);
        assert!(end(TABLE, descriptors()) <= usize::from(RESET));
        assert_eq!(GOOD_STATUS, 69);
    }
}
