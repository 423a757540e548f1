//! A library that keeps the clock still for every program of a sandbox, and tells them one kernel.
//!
//! The loader puts it before the C library (`/etc/ld.so.preload`). Time and the kernel's name are
//! in [`SETTINGS`], which baker writes into the finished library: a program may lose its
//! environment, but not this. Clocks that measure how long something takes go on.
//!
//! It uses no memory of its own, no standard library, and nothing of the C library but `errno`.
//! Programs that are linked statically do not see it.
#![cfg_attr(not(test), no_std)]
#![expect(
    unsafe_code,
    reason = "functions of the C library take pointers that only their callers can vouch for"
)]

use core::arch::asm;
use core::ffi::{c_char, c_int, c_long, c_void};

/// What baker writes into the library.
#[repr(C)]
struct Settings {
    /// By which it is found: `baker_contract::sandbox::CLOCK_MARK`.
    mark: [u8; 16],
    /// Seconds since 1970-01-01 UTC.
    epoch: i64,
    /// What `uname -r` says, with a zero behind it; the kernel's own when empty.
    release: [u8; 64],
}

#[used]
static SETTINGS: Settings = Settings {
    mark: *b"baker clock v1:\0",
    epoch: 0,
    release: [0; 64],
};

/// `struct timespec`.
#[repr(C)]
pub struct TimeSpec {
    seconds: i64,
    nanoseconds: c_long,
}

/// `struct timeval`.
#[repr(C)]
pub struct TimeValue {
    seconds: i64,
    microseconds: c_long,
}

/// Clocks that tell the time of day: `CLOCK_REALTIME`, `CLOCK_REALTIME_COARSE`, `CLOCK_TAI`.
const OF_DAY: [c_int; 3] = [0, 5, 11];

/// `TIME_UTC` of C11.
const TIME_UTC: c_int = 1;

/// Bytes of one field of `struct utsname`.
const FIELD: usize = 65;

#[cfg(target_arch = "x86_64")]
mod numbers {
    pub const CLOCK_GETTIME: usize = 228;
    pub const UNAME: usize = 63;
}

#[cfg(target_arch = "aarch64")]
mod numbers {
    pub const CLOCK_GETTIME: usize = 113;
    pub const UNAME: usize = 160;
}

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// Volatile: the compiler knows another value than the one that baker writes.
fn epoch() -> i64 {
    // SAFETY: a static of this library, always there.
    unsafe { (&raw const SETTINGS.epoch).read_volatile() }
}

/// `clock_gettime(3)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut TimeSpec) -> c_int {
    if OF_DAY.contains(&clock) {
        // SAFETY: the caller gives a place for the answer.
        return unsafe { still(time) };
    }
    let Ok(number) = usize::try_from(clock) else {
        // SAFETY: clocks of processes and devices are negative; the kernel knows them.
        return unsafe { call(numbers::CLOCK_GETTIME, clock as isize as usize, time.cast()) };
    };
    // SAFETY: as above.
    unsafe { call(numbers::CLOCK_GETTIME, number, time.cast()) }
}

/// `timespec_get(3)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn timespec_get(time: *mut TimeSpec, base: c_int) -> c_int {
    if base != TIME_UTC {
        return 0;
    }
    // SAFETY: the caller gives a place for the answer.
    unsafe { still(time) };
    base
}

/// `gettimeofday(2)`; the time zone has no meaning on Linux and is left alone.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut TimeValue, _zone: *mut c_void) -> c_int {
    if !time.is_null() {
        let value = TimeValue {
            seconds: epoch(),
            microseconds: 0,
        };
        // SAFETY: the caller gives a place for the answer.
        unsafe { time.write(value) };
    }
    0
}

/// `time(2)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(out: *mut i64) -> i64 {
    if !out.is_null() {
        // SAFETY: the caller gives a place for the answer.
        unsafe { out.write(epoch()) };
    }
    epoch()
}

/// `uname(2)`, with the release and version of no kernel in particular.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn uname(names: *mut c_char) -> c_int {
    // SAFETY: the caller gives a `struct utsname`.
    let result = unsafe { call(numbers::UNAME, names as usize, core::ptr::null_mut()) };
    // SAFETY: a static of this library, always there.
    let release = unsafe { (&raw const SETTINGS.release).read_volatile() };
    if result == 0 && release[0] != 0 {
        // SAFETY: the third and the fourth field of the structure that was just filled.
        unsafe {
            put(names.cast::<u8>().add(2 * FIELD), &release);
            put(names.cast::<u8>().add(3 * FIELD), b"#1 SMP baker\0");
        }
    }
    result
}

unsafe fn put(field: *mut u8, text: &[u8]) {
    for (at, byte) in text.iter().enumerate() {
        // SAFETY: no text is longer than a field.
        unsafe { field.add(at).write(*byte) };
        if *byte == 0 {
            return;
        }
    }
}

unsafe fn still(time: *mut TimeSpec) -> c_int {
    if !time.is_null() {
        let value = TimeSpec {
            seconds: epoch(),
            nanoseconds: 0,
        };
        // SAFETY: the caller gives a place for the answer.
        unsafe { time.write(value) };
    }
    0
}

/// A system call with two arguments, and `errno` as the C library sets it.
unsafe fn call(number: usize, first: usize, second: *mut c_void) -> c_int {
    // SAFETY: both calls write at most the structure that the caller gave.
    let result = unsafe { raw(number, first, second as usize) };
    if result >= 0 {
        return 0;
    }
    // SAFETY: the C library's own place for this thread.
    unsafe { __errno_location().write(c_int::try_from(-result).unwrap_or(c_int::MAX)) };
    -1
}

#[cfg(target_arch = "x86_64")]
unsafe fn raw(number: usize, first: usize, second: usize) -> isize {
    let result: isize;
    // SAFETY: the kernel's calling convention; it changes only what is named here.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn raw(number: usize, first: usize, second: usize) -> isize {
    let result: isize;
    // SAFETY: the kernel's calling convention; it changes only what is named here.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") first => result,
            in("x1") second,
            options(nostack),
        );
    }
    result
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
