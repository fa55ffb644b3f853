//! Platforms, as an index names them.

use oci_spec::image::Descriptor;

use crate::error::{Case, Refusal, Result};

/// `os/architecture[/variant]`, as in `--platform`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
    pub(super) variant: Option<String>,
}

impl Platform {
    /// Returns the platform this binary was built for, in Go's terms, which OCI uses.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: None }
    }

    /// Returns the operating system, `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// Returns the architecture in Go's terms, such as `amd64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    pub(super) fn matches(&self, descriptor: &Descriptor) -> bool {
        descriptor.platform().as_ref().is_some_and(|p| {
            p.os().to_string() == self.os
                && p.architecture().to_string() == self.architecture
                && (self.variant.is_none() || *p.variant() == self.variant)
        })
    }
}

impl std::str::FromStr for Platform {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.split('/').map(str::to_owned).collect();
        match parts.as_slice() {
            [os, architecture] => Ok(Self { os: os.clone(), architecture: architecture.clone(), variant: None }),
            [os, architecture, variant] => {
                Ok(Self { os: os.clone(), architecture: architecture.clone(), variant: Some(variant.clone()) })
            }
            _ => Err(Refusal::new(Case::Usage, text, "a platform is OS/ARCH or OS/ARCH/VARIANT")),
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|v| write!(f, "/{v}"))
    }
}
