//! What a caller and the service say to each other: bytes to values and back. Nothing is believed, and there are no
//! paths.
//!
//! ```text
//! call:    length of the header, four bytes, little-endian │ header, JSON │ documents, one after another
//! answer:  length, four bytes │ JSON
//! ```
//!
//! Descriptors come with the bytes of a call (`SCM_RIGHTS`), in the order in which its header names them; the mount
//! comes with the bytes of an answer.

use serde::{Deserialize, Serialize};

use super::record::{UserMount, VouchedImage};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::strict_json;
use crate::policy::Mode;

/// Where the service listens.
pub const SOCKET: &str = "/run/layerseal/serve.sock";

/// The version of this protocol.
const VERSION: u32 = 1;

/// How many bytes a header may have: 600 documents and a few names take 8 KiB.
pub const MAX_HEADER: u32 = 64 << 10;
/// How many documents a call may have: a signature for each of 500 layers, and twice as many again for two seals.
const MAX_DOCUMENTS: usize = 2048;
/// How many bytes all documents may have together: manifest and config may have 4 MiB each.
const MAX_BYTES: u64 = 12 << 20;
/// How many names an image may have.
const MAX_NAMES: usize = 64;
/// How many bytes a name may have: registries allow a third of this.
const MAX_NAME: usize = 1024;
/// How many bytes an answer may have.
pub const MAX_ANSWER: u32 = 1 << 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// A mount of the image.
    #[default]
    Mount,
    /// Whether the image would be mounted, as far as its documents tell. Without descriptors.
    Verdict,
    /// What the service has mounted for the caller. With nothing else.
    Mounts,
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandedPart {
    /// The EROFS image, open for reading.
    Erofs,
    /// The directory of objects: a mount that is attached nowhere.
    Objects,
    /// The mount, attached nowhere, that upper and work directory are on.
    Layer,
    /// The directory of changes, on that mount.
    Upper,
    /// Overlayfs's own directory, on that mount.
    Work,
    /// A directory that is shown above the image: a mount that is attached nowhere.
    Above,
    /// A user namespace made in the caller's, under whose IDs files are shown.
    Namespace,
}

/// A call: mount this image, or something about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceCall {
    version: u32,
    /// What is asked for.
    #[serde(default)]
    pub asks: Question,
    /// The names that the image goes by.
    pub names: Vec<String>,
    /// The sizes of the documents: the manifest's, the config's, and then those of the parts of its seals.
    pub documents: Vec<u64>,
    /// Which of the documents are seals, by their digests.
    pub seals: Vec<String>,
    /// What the descriptors are, in order.
    pub descriptors: Vec<HandedPart>,
    /// Whether changes need not survive a power cut.
    #[serde(default)]
    pub volatile: bool,
    /// Whether set-user-ID bits are ignored.
    #[serde(default)]
    pub nosuid: bool,
    /// Whether nothing can be executed.
    #[serde(default)]
    pub noexec: bool,
    /// Whether the upper directory is that of an overlay which its user's podman mounts by itself too: what overlayfs
    /// notes in it are attributes of users (`user.overlay.*`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub native: bool,
    /// The filesystem whose mounts are asked about, by its major and minor number; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
}

impl ServiceCall {
    /// Makes an empty call.
    pub fn new() -> Self {
        Self {
            version: VERSION,
            asks: Question::Mount,
            names: Vec::new(),
            documents: Vec::new(),
            seals: Vec::new(),
            descriptors: Vec::new(),
            volatile: false,
            nosuid: false,
            noexec: false,
            native: false,
            device: None,
        }
    }

    /// Parses a header.
    ///
    /// # Errors
    /// [`Case::R01Call`] for something that is not a call, or that asks for more than any image needs.
    pub fn parse(header: &[u8]) -> Result<Self> {
        let refuse = |why: String| Refusal::new(Case::R01Call, "", why);
        let call: Self = strict_json::parse(header, "header").map_err(|r| refuse(r.to_string()))?;
        if call.version != VERSION {
            return Err(refuse(format!("version {}, this is {VERSION}", call.version)));
        }
        if call.names.len() > MAX_NAMES || call.names.iter().any(|name| name.len() > MAX_NAME || name.is_empty()) {
            return Err(refuse("too many names, or too long ones".into()));
        }
        let bytes = call.documents.iter().try_fold(0_u64, |sum, size| sum.checked_add(*size));
        if call.documents.len() > MAX_DOCUMENTS || bytes.is_none_or(|bytes| bytes > MAX_BYTES) {
            return Err(refuse("too many documents, or too large ones".into()));
        }
        if call.asks == Question::Mounts {
            let nothing = Self { asks: Question::Mounts, device: call.device, ..Self::new() };
            return if call == nothing { Ok(call) } else { Err(refuse("more than a question".into())) };
        }
        if call.device.is_some() || (call.native && !call.descriptors.contains(&HandedPart::Upper)) {
            return Err(refuse("what does not belong to it".into()));
        }
        if call.asks == Question::Verdict && !call.descriptors.is_empty() {
            return Err(refuse("descriptors for a question".into()));
        }
        if call.documents.len() < 2 {
            return Err(refuse("no manifest and config".into()));
        }
        if call.seals.len() > call.documents.len() {
            return Err(refuse("more seals than documents".into()));
        }
        call.digests()?;
        call.check_descriptors().map_err(|why| refuse(why.into()))?;
        Ok(call)
    }

    /// Checks that each descriptor is there at most once, and that those that belong together are all there.
    fn check_descriptors(&self) -> std::result::Result<(), &'static str> {
        let count = |part| self.descriptors.iter().filter(|p| **p == part).count();
        use HandedPart::{Above, Erofs, Layer, Namespace, Objects, Upper, Work};
        let writable = [Layer, Upper, Work].map(count);
        // What the policy asks of an image can be asked without descriptors.
        if self.descriptors.is_empty() {
            return Ok(());
        }
        if count(Erofs) != 1 || count(Objects) != 1 {
            return Err("one EROFS image and one directory of objects are needed");
        }
        if writable != [0; 3] && writable != [1; 3] {
            return Err("upper and work directory come together, with the mount that they are on");
        }
        if count(Above) > 1 || count(Namespace) > 1 || (count(Above) == 1 && count(Upper) == 1) {
            return Err("descriptors that do not belong together");
        }
        Ok(())
    }

    /// Parses the digests of the seals.
    ///
    /// # Errors
    /// [`Case::R01Call`] for text that is not a digest.
    pub fn digests(&self) -> Result<Vec<BlobDigest>> {
        let parse = |digest: &String| digest.parse().map_err(|r: Refusal| Refusal::new(Case::R01Call, "", r));
        self.seals.iter().map(parse).collect()
    }

    /// Returns the bytes that a call begins with; the documents follow.
    ///
    /// # Errors
    /// [`Case::R01Call`] for one that [`Self::parse`] would refuse.
    pub fn header(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(self).map_err(|e| Refusal::new(Case::Bug, "call", e))?;
        if json.len() > MAX_HEADER as usize {
            return Err(Refusal::new(Case::R01Call, "", "the header is too long"));
        }
        Self::parse(&json)?;
        Ok(framed(json))
    }
}

impl Default for ServiceCall {
    fn default() -> Self {
        Self::new()
    }
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceAnswer {
    /// The mount comes with this answer.
    Mounted,
    /// The same, for hooks: with what is on record of it.
    Root(Box<UserMount>),
    /// There is no mount, or there would be none.
    Refused(Refused),
    /// The image would be mounted.
    Verified(Box<VouchedImage>),
    /// What was mounted for the caller.
    Mounts(Vec<UserMount>),
}

/// Why there is no mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The case's ID.
    case: String,
    /// What is wrong, which distinguishes cases with the same ID.
    what: String,
    subject: String,
    detail: String,
    /// What the policy of this host asks of the image; `None` if that was not found out.
    pub mode: Option<Mode>,
}

impl ServiceAnswer {
    /// Makes the answer for a refusal.
    pub fn refused(refusal: &Refusal, mode: Option<Mode>) -> Self {
        Self::Refused(Refused {
            case: refusal.case().id().to_owned(),
            what: refusal.case().what().to_owned(),
            subject: refusal.subject(),
            detail: refusal.detail().to_owned(),
            mode,
        })
    }

    /// Parses an answer.
    ///
    /// # Errors
    /// [`Case::R06Service`] for something that is not an answer.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        strict_json::parse(bytes, "answer").map_err(|r| Refusal::new(Case::R06Service, "", r))
    }

    /// Returns the bytes of an answer.
    pub fn bytes(&self) -> Vec<u8> {
        // Only strings, and no map with other keys: it cannot fail.
        framed(serde_json::to_vec(self).unwrap_or_default())
    }
}

impl Refused {
    /// Returns the refusal as the service made it.
    pub fn refusal(&self) -> Refusal {
        let same = |case: &&Case| case.id() == self.case && case.what() == self.what;
        match Case::ALL.iter().find(same) {
            Some(case) => Refusal::new(*case, &self.subject, &self.detail),
            None => Refusal::new(Case::R06Service, &self.subject, format!("{} ({})", self.what, self.case)),
        }
    }
}

fn framed(json: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], &json].concat()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn call() -> Value {
        json!({"version": 1, "names": ["a/b"], "documents": [10, 20, 30], "seals": [],
               "descriptors": ["erofs", "objects", "layer", "upper", "work"]})
    }

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let read = ServiceCall::parse(call().to_string().as_bytes()).unwrap();
        let header = read.header().unwrap();
        assert_eq!(u32::from_le_bytes(header[..4].try_into().unwrap()) as usize, header.len() - 4);
        assert_eq!(ServiceCall::parse(&header[4..]).unwrap(), read);
    }

    #[test]
    fn r01_what_is_no_call_is_refused() {
        let bad: [(&str, Value); 22] = [
            ("asks", json!("records")),
            ("asks", json!("verdict")),
            ("asks", json!("mounts")),
            ("version", json!(2)),
            ("version", json!("1")),
            ("names", json!([""])),
            ("names", json!(vec!["a"; MAX_NAMES + 1])),
            ("names", json!(["a".repeat(MAX_NAME + 1)])),
            ("documents", json!([1])),
            ("documents", json!([1, MAX_BYTES])),
            ("documents", json!([u64::MAX, 2])),
            ("documents", json!([-1, 2])),
            ("documents", json!(vec![0; MAX_DOCUMENTS + 1])),
            ("seals", json!(["sha256:xyz"])),
            ("descriptors", json!(["erofs"])),
            ("descriptors", json!(["erofs", "objects", "upper"])),
            ("descriptors", json!(["erofs", "objects", "objects"])),
            ("descriptors", json!(["erofs", "objects", "/etc"])),
            ("descriptors", json!(["erofs", "objects", "layer", "upper", "work", "above"])),
            ("options", json!("suid")),
            ("native", json!("yes")),
            ("device", json!([0, 41])),
        ];
        for (key, value) in bad {
            let mut call = call();
            call[key] = value;
            let text = call.to_string();
            assert_eq!(ServiceCall::parse(text.as_bytes()).unwrap_err().case(), Case::R01Call, "{text:.200}");
        }
        let twice = call().to_string().replacen('{', "{\"version\":1,", 1);
        for bytes in [b"".as_slice(), b"{}", b"[]", b"\xff", twice.as_bytes()] {
            assert_eq!(ServiceCall::parse(bytes).unwrap_err().case(), Case::R01Call);
        }
    }

    #[test]
    fn questions_come_without_descriptors_and_one_about_mounts_with_nothing() {
        let mut verdict = call();
        verdict["asks"] = json!("verdict");
        verdict["descriptors"] = json!([]);
        assert_eq!(ServiceCall::parse(verdict.to_string().as_bytes()).unwrap().asks, Question::Verdict);
        let mut mounts = ServiceCall::new();
        mounts.asks = Question::Mounts;
        let header = mounts.header().unwrap();
        assert_eq!(ServiceCall::parse(&header[4..]).unwrap(), mounts);
        mounts.device = Some((0, 41));
        let header = mounts.header().unwrap();
        assert_eq!(ServiceCall::parse(&header[4..]).unwrap(), mounts);
        verdict["native"] = json!(true);
        assert_eq!(ServiceCall::parse(verdict.to_string().as_bytes()).unwrap_err().case(), Case::R01Call);
        for part in ["names", "documents", "seals", "volatile"] {
            let mut more = serde_json::to_value(&mounts).unwrap();
            more[part] = verdict[part].clone();
            if part == "seals" {
                more[part] = json!([format!("sha256:{}", "a".repeat(64))]);
            } else if part == "volatile" {
                more[part] = json!(true);
            }
            let error = ServiceCall::parse(more.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.case(), Case::R01Call, "{part}");
        }
    }

    #[test]
    fn a_refusal_is_the_same_on_the_other_side() {
        for case in Case::ALL {
            let refusal = Refusal::new(*case, "subject", "why");
            let bytes = ServiceAnswer::refused(&refusal, Some(Mode::Audit)).bytes();
            let ServiceAnswer::Refused(refused) = ServiceAnswer::parse(&bytes[4..]).unwrap() else { panic!() };
            assert_eq!(refused.refusal().to_string(), refusal.to_string());
            assert_eq!(refused.mode, Some(Mode::Audit));
        }
        assert!(matches!(ServiceAnswer::parse(&ServiceAnswer::Mounted.bytes()[4..]), Ok(ServiceAnswer::Mounted)));
    }
    #[test]
    fn r06_what_is_no_answer_is_refused() {
        for bytes in [b"".as_slice(), b"{}", b"[]", b"\xff", b"{\"refused\":{}}", b"\"something\""] {
            assert_eq!(ServiceAnswer::parse(bytes).unwrap_err().case(), Case::R06Service, "{bytes:?}");
        }
        // A case of another version is known by what it says.
        let refusal = Refusal::new(Case::C07NoSeal, "subject", "");
        let ServiceAnswer::Refused(refused) = ServiceAnswer::refused(&refusal, None) else { panic!() };
        let other = Refused { case: "Z99".to_owned(), ..refused };
        assert_eq!(other.refusal().case(), Case::R06Service);
        assert!(other.refusal().to_string().contains("Z99"));
    }
}
