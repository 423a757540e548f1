//! GUIDs, which UEFI stores with their first three fields in little endian.

use std::fmt;

use baker_model::digest::uuid_text;

/// A GUID as it is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// `gEfiGlobalVariableGuid`.
    pub const GLOBAL_VARIABLE: Self = Self::of(0x8be4_df61_93ca_11d2_aa0d_00e0_9803_2b8c);
    /// `gEfiImageSecurityDatabaseGuid`.
    pub const IMAGE_SECURITY_DATABASE: Self = Self::of(0xd719_b2cb_3d3a_4596_a3bc_dad0_0e67_656f);
    /// `gEfiSecureBootEnableDisableGuid`.
    pub(super) const SECURE_BOOT_ENABLE: Self = Self::of(0xf0a3_0bc7_af08_4556_99c4_0010_09c9_3a44);
    /// `gEfiCustomModeEnableGuid`.
    pub(super) const CUSTOM_MODE: Self = Self::of(0xc076_ec0c_7028_4399_a072_71ee_5c44_8b9f);
    /// `gEfiSystemNvDataFvGuid`.
    pub(super) const SYSTEM_NV_DATA: Self = Self::of(0xfff1_2b8d_7696_4c8b_a985_2747_075b_4f50);
    /// `gEfiAuthenticatedVariableGuid`.
    pub(super) const AUTHENTICATED_VARIABLE: Self =
        Self::of(0xaaf3_2c78_947b_439a_a180_2e14_4ec3_7792);
    /// `gEfiCertX509Guid`.
    pub(super) const CERT_X509: Self = Self::of(0xa5c0_59a1_94e4_4aa7_87b5_ab15_5c2b_f072);
    /// `gEfiCertPkcs7Guid`.
    pub(super) const CERT_PKCS7: Self = Self::of(0x4aaf_d29d_68df_49ee_8aa9_347d_3756_65a7);

    /// A GUID from the digits of its text.
    const fn of(text: u128) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = text.to_be_bytes();
        Self([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
    }

    /// A GUID from a UUID in the order of its text.
    pub(super) const fn of_uuid(uuid: [u8; 16]) -> Self {
        Self::of(u128::from_be_bytes(uuid))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f1, g, h, i, j, k, l, m, n, o, p] = self.0;
        f.write_str(&uuid_text([
            d, c, b, a, f1, e, h, g, i, j, k, l, m, n, o, p,
        ]))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
