//! `EFI_TIME`, the time of an authenticated write.
//!
//! Year u16, month, day, hour, minute, second, then nanosecond, zone and daylight, which are zero
//! here as section 8.2.2 of the UEFI specification wants them.

use baker_model::plan::Day;

/// A time as it is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time(pub [u8; 16]);

impl Time {
    /// 2000-01-01 00:00:00 UTC: what enrolled keys carry. Firmware takes a signed update only when
    /// it is newer, so this is older than any that will ever be made.
    pub const ENROLLED: Self = Self([0xd0, 7, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

    /// A moment in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn of_unix(seconds: u64) -> Self {
        let day = Day::of_unix(seconds);
        let [low, high] = day.year().to_le_bytes();
        let small = |value: u64| u8::try_from(value).unwrap_or_default();
        let (hour, minute) = (small(seconds / 3600 % 24), small(seconds / 60 % 60));
        let mut bytes = [0; 16];
        bytes[..7].copy_from_slice(&[
            low,
            high,
            day.month(),
            day.day(),
            hour,
            minute,
            small(seconds % 60),
        ]);
        Self(bytes)
    }
}
