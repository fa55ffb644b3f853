//! skopeo as a proxy (containers-image-proxy): whatever the containers tools are configured to do about
//! credentials, certificates, mirrors and policy.json is done by them.

use std::io::Write as _;

use containers_image_proxy::{ImageProxy, ImageProxyConfig, OpenedImage};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::clock::Clock;
use super::{Options, error, skopeo};
use crate::digest::{BlobDigest, BlobHasher};
use crate::error::{Case, Refusal, Result};
use crate::oci::{BlobStore, Budget, Repository};

/// The first version in which opening an image asks policy.json (skopeo 1.13).
const LEAST: (u64, u64, u64) = (0, 2, 6);

/// How long a proxy may take to say what went wrong with a blob that went wrong.
const AFTERWORD: std::time::Duration = std::time::Duration::from_secs(1);

/// The running skopeo.
#[derive(Debug)]
pub(super) struct Proxy(ImageProxy);

/// A manifest that policy.json has let pass, and by which blobs of its repository are read.
#[derive(Debug)]
pub(super) struct Opened {
    image: OpenedImage,
    /// Its raw bytes, if the proxy has given them as they are: it converts what is not OCI.
    pub(super) raw: Option<Vec<u8>>,
}

impl Proxy {
    pub(super) async fn start(options: &Options, clock: &Clock, budget: &Budget) -> Result<Self> {
        let mut config = ImageProxyConfig::default();
        config.authfile = options.authfile.clone();
        config.certificate_directory = options.cert_dir.clone();
        config.insecure_skip_tls_verification = Some(!options.tls_verify);
        config.skopeo_cmd = Some(skopeo::command());
        let start = async { ImageProxy::new_with_config(config).await.map_err(|e| error::proxy("skopeo", &e)) };
        let proxy = clock.limit("skopeo", Some(budget.answer), start).await?;
        let version = proxy.protocol_version();
        if (version.major, version.minor, version.patch) < LEAST {
            return Err(error::too_old(&version.to_string()));
        }
        Ok(Self(proxy))
    }

    /// Returns the version of the protocol.
    pub(super) fn version(&self) -> String {
        self.0.protocol_version().to_string()
    }

    /// Opens the manifest of `digest`.
    ///
    /// # Errors
    /// [`Case::C18NoImage`], [`Case::C19Policy`], and C03, C10, C11, C17.
    pub(super) async fn open(
        &self,
        repository: &Repository,
        digest: &BlobDigest,
        clock: &Clock,
        budget: &Budget,
    ) -> Result<Opened> {
        let name = repository.at(digest);
        let work = async {
            let failed = |e| error::proxy(&name, &e);
            let image = self.0.open_image(&name).await.map_err(failed)?;
            let (_, bytes) = self.0.fetch_manifest_raw_oci(&image).await.map_err(failed)?;
            let exact = bytes.len() as u64 <= budget.manifest && BlobDigest::of(&bytes) == *digest;
            Ok(Opened { image, raw: exact.then_some(bytes) })
        };
        clock.limit(&name, Some(budget.answer), work).await
    }

    /// Reads a blob into `store`, where it gets its name when size and digest are right.
    ///
    /// # Errors
    /// [`Case::C04Bytes`], and C03, C10, C11, C17.
    pub(super) async fn blob(&self, from: &Opened, wanted: &BlobDescriptor<'_>, into: Into<'_>) -> Result<()> {
        let name = wanted.digest.to_string();
        let failed = |e: containers_image_proxy::Error| error::proxy(&name, &e);
        let digest = name.parse().map_err(|e| Refusal::new(Case::Bug, &name, e))?;
        let start = into.clock.left(&name, into.budget.answer)?;
        let late = || into.clock.late(&name, into.budget.answer);
        if self.0.supports_get_raw_blob() {
            let begin = tokio::time::timeout(start, self.0.get_raw_blob(&from.image, &digest));
            let (_, reader, driver) = begin.await.map_err(|_| late())?.map_err(failed)?;
            let copied = copy(reader, wanted, &into).await;
            if copied.as_ref().is_err_and(|r| r.case() == Case::C03Slow) {
                return copied;
            }
            // What went wrong in the proxy says more than bytes that are missing here; but we do not wait long for it.
            let patience = if copied.is_ok() { into.clock.left(&name, into.budget.answer)? } else { AFTERWORD };
            match (copied, tokio::time::timeout(patience, driver).await) {
                (_, Ok(Err(e))) => Err(failed(e.into())),
                (Ok(_), Err(_)) => Err(late()),
                (copied, _) => copied,
            }
        } else {
            let begin = tokio::time::timeout(start, self.0.get_blob(&from.image, &digest, wanted.size));
            let (reader, driver) = begin.await.map_err(|_| late())?.map_err(failed)?;
            let driver = async { driver.await.map_err(failed) };
            tokio::try_join!(copy(reader, wanted, &into), driver).map(drop)
        }
    }
}

/// A blob as its descriptor has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlobDescriptor<'a> {
    pub(super) digest: &'a BlobDigest,
    pub(super) size: u64,
}

/// Where a blob is to go, and what it may cost.
#[derive(Clone, Copy)]
pub(super) struct Into<'a> {
    pub(super) store: &'a BlobStore,
    pub(super) clock: &'a Clock,
    pub(super) budget: &'a Budget,
    pub(super) progress: &'a dyn Fn(u64),
}

/// Reads to the end and never past the size: what is longer is another blob, and may be endless.
async fn copy(mut reader: impl AsyncRead + Unpin, wanted: &BlobDescriptor<'_>, into: &Into<'_>) -> Result<()> {
    let name = wanted.digest.to_string();
    let io = |e: std::io::Error| Refusal::io(&name, e);
    let wrong = |why: String| Refusal::new(Case::C04Bytes, &name, why);
    let mut new = into.store.new_blob()?;
    let mut hasher = BlobHasher::default();
    let mut buffer = vec![0; 256 << 10];
    let (mut size, mut since) = (0_u64, 0_u64);
    let mut patience = std::time::Instant::now();
    loop {
        let answer = into.budget.answer.saturating_sub(patience.elapsed());
        let left = into.clock.left(&name, answer)?;
        let read = tokio::time::timeout(left, reader.read(&mut buffer)).await;
        let n = match read {
            Ok(n) => n.map_err(|e| Refusal::new(Case::C17Network, &name, e))?,
            Err(_) => return Err(into.clock.late(&name, into.budget.answer)),
        };
        if n == 0 {
            break;
        }
        size += n as u64;
        since += n as u64;
        if size > wanted.size {
            return Err(wrong(format!("more than its {} bytes", wanted.size)));
        }
        if since >= into.budget.trickle {
            (since, patience) = (0, std::time::Instant::now());
        }
        hasher.update(&buffer[..n]);
        new.write_all(&buffer[..n]).map_err(io)?;
        (into.progress)(n as u64);
    }
    if size != wanted.size {
        return Err(wrong(format!("{size} of its {} bytes", wanted.size)));
    }
    let found = hasher.finish();
    if found != *wanted.digest {
        return Err(wrong(format!("they have the digest {found}")));
    }
    into.store.adopt(new, wanted.digest)
}
