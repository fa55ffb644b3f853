//! `layerseal gc`: what is needed stays, everything else goes, and nothing goes where it cannot be told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use layerseal::vault::Vault;
use serde_json::json;

use crate::common::{Bench, Layout, two_layers};
use crate::store::Store;
use crate::{can_mount, object, other_layers};

/// A vault with the sealed image `app` and the image `other`, which share their base.
fn two_images() -> (Bench, Layout, Layout) {
    let bench = Bench::new();
    let app = bench.sealed(&two_layers());
    bench.run(&["pull", "oci:image", "--name", "app", "--require-signature", "--trust", "signer.crt"]).ok();
    let other = Layout::new(&bench.path("other-image"), &other_layers());
    bench.run(&["pull", "oci:other-image", "--name", "other"]).ok();
    (bench, app, other)
}

/// The files that a vault has in which nothing but `app` ever was.
fn only_app(bench: &Bench) -> Vec<String> {
    let fresh = Bench::new();
    let copied = Command::new("cp").arg("-a").arg(bench.path("image")).arg(fresh.dir.path()).status().unwrap();
    assert!(copied.success());
    fresh.signer("signer", crate::common::signer());
    fresh.run(&["pull", "oci:image", "--name", "app", "--require-signature", "--trust", "signer.crt"]).ok();
    fresh.vault_files()
}

#[test]
fn what_has_no_name_goes_and_the_rest_stays_whole() {
    let (bench, app, other) = two_images();
    bench.run(&["untag", "other"]).ok();
    let before = bench.vault_files();
    let dry = bench.run(&["gc", "--dry-run", "--json"]).ok().json();
    assert_eq!(bench.vault_files(), before);
    assert_eq!(dry["removed"]["images"], json!([other.digest.to_string()]));
    let run = bench.run(&["gc", "--json"]).ok().json();
    assert_eq!(run["removed"], dry["removed"]);
    assert_eq!((&run["dry_run"], &run["kept"]["images"]), (&json!(false), &json!(1)));
    // Exactly what is there where the other never was: seals, signatures and notes too.
    assert_eq!(bench.vault_files(), only_app(&bench));
    assert_eq!(run["removed"]["files"], before.len() - bench.vault_files().len());
    assert!(run["removed"]["bytes"].as_u64().unwrap() > 70_000);
    bench.run(&["verify", "app", "--trust", "signer.crt"]).ok();
    bench.run(&["fsck"]).ok();
    bench.run(&["images"]).ok().stdout.lines().find(|l| l.contains(&app.digest.to_string())).unwrap();
    // Nothing more to do; and without a name nothing stays.
    assert_eq!(bench.run(&["gc", "--json"]).ok().json()["removed"]["files"], 0);
    bench.run(&["untag", "app"]).ok();
    bench.run(&["gc"]).ok();
    assert_eq!(bench.vault_files(), Vec::<String>::new());
    assert!(std::fs::read_dir(bench.vault().join("images")).unwrap().next().is_none());
    bench.run(&["pull", "oci:image", "--name", "app"]).ok();
    bench.run(&["fsck"]).ok();
}

#[test]
fn without_a_vault_there_is_nothing_to_do() {
    let bench = Bench::new();
    bench.run(&["gc"]).ok();
    bench.run(&["fsck"]).ok();
    assert!(!bench.vault().exists());
}

#[test]
fn what_the_container_store_has_stays() {
    let (bench, app, other) = two_images();
    std::fs::create_dir(bench.path("graph")).unwrap();
    let mut records = Store::new(&bench.path("graph"));
    let stored = records.image("unrelated", &["tar"]);
    let key = format!("manifest-{}", other.digest);
    let raw = other.read(&other.digest.to_string());
    records.big_data(&stored.id, &key, &raw);
    records.images[0]["big-data-names"].as_array_mut().unwrap().push(json!(key));
    records.save();
    // A store elsewhere is kept in mind when it is named, and only then.
    bench.run(&["untag", "other"]).ok();
    let graph = bench.path("graph").display().to_string();
    let kept = |args: &[&str]| bench.run(&[&["gc", "--json", "--dry-run"][..], args].concat()).ok().json();
    assert_eq!(kept(&[])["removed"]["images"], json!([other.digest.to_string()]));
    assert_eq!(kept(&["--store", &graph])["removed"]["files"], 0);
    // The one around the vault always is.
    std::fs::rename(bench.vault(), bench.path("graph/layerseal")).unwrap();
    std::os::unix::fs::symlink("graph/layerseal", bench.vault()).unwrap();
    assert_eq!(kept(&[])["removed"]["files"], 0);
    bench.run(&["untag", "app"]).ok();
    assert_eq!(kept(&[])["removed"]["images"], json!([app.digest.to_string()]));
    // Records that cannot be read, and an image without its manifest: nothing is removed.
    let before = bench.vault_files();
    let manifest = records.big_data_path(&stored.id, "manifest");
    std::fs::remove_file(manifest).unwrap();
    bench.run(&["gc"]).refused(4, "B01");
    std::fs::write(records.path("overlay-images/images.json"), "[{\"id\":").unwrap();
    bench.run(&["gc"]).refused(4, "B01");
    bench.run(&["gc", "--store", "/nonexistent"]).refused(4, "B01");
    assert_eq!(bench.vault_files(), before);
}

#[test]
fn where_it_cannot_be_told_nothing_is_removed() {
    type Harm = fn(&Bench, &Layout);
    let harms: [(&str, Harm, i32, &str); 5] = [
        ("a changed EROFS image", |bench, _| flip(&erofs(bench)), 4, "I02"),
        ("a changed manifest", |bench, app| flip(&bench.vault().join("blobs/sha256").join(app.digest.hex())), 4, "C04"),
        ("a damaged note", |bench, app| write(&notes(bench, app), "merged x\n"), 1, "X01"),
        ("a damaged name", |bench, _| write(&bench.vault().join("tags/app"), "x"), 4, "B07"),
        (
            "a name that is no file",
            |bench, _| {
                std::fs::create_dir(bench.vault().join("tags/directory")).unwrap();
            },
            1,
            "X01",
        ),
    ];
    for (what, harm, code, case) in harms {
        println!("{what}");
        let (bench, app, _) = two_images();
        bench.run(&["untag", "other"]).ok();
        harm(&bench, &app);
        let before = bench.vault_files();
        bench.run(&["gc"]).refused(code, case);
        assert_eq!(bench.vault_files(), before, "{what}");
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn notes(bench: &Bench, image: &Layout) -> std::path::PathBuf {
    bench.vault().join("images").join(image.digest.hex()).join("digests.fsverity-sha512-12")
}

/// The merged EROFS image of `app`.
fn erofs(bench: &Bench) -> std::path::PathBuf {
    let digest = bench.run(&["digest", "app", "--json"]).ok().json();
    let roles = digest["roles"].as_array().unwrap();
    let hex = roles.iter().find(|r| r["role"] == "merged").unwrap()["digest"].as_str().unwrap();
    bench.vault().join("objects").join(&hex[..2]).join(&hex[2..])
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn l01_what_a_killed_collection_left_is_swept_up() {
    let (bench, _, other) = two_images();
    bench.run(&["untag", "other"]).ok();
    let images = bench.vault().join("images");
    let gone = format!(".gone-{}", other.digest.hex());
    std::fs::rename(images.join(other.digest.hex()), images.join(&gone)).unwrap();
    for place in ["blobs/sha256", "tags"] {
        write(&bench.vault().join(place).join(".new-1-0"), "half");
    }
    bench.run(&["images"]).ok();
    bench.run(&["gc"]).ok();
    assert_eq!(bench.vault_files(), only_app(&bench));
    assert!(!images.join(gone).exists());
}

#[test]
fn j04_a_collection_waits_for_others_and_others_for_it() {
    let (bench, _, _) = two_images();
    // It is alone only while it removes something.
    bench.run(&["untag", "other"]).ok();
    let vault = Vault::open(&bench.vault()).unwrap();
    let shared = vault.shared().unwrap();
    vault.shared().unwrap();
    let begin = Instant::now();
    bench.run(&["gc"]).refused(7, "X08");
    assert!(begin.elapsed() >= Duration::from_secs(9));
    // A look removes nothing and needs not wait.
    bench.run(&["gc", "--dry-run"]).ok();
    drop(shared);
    let exclusive = vault.exclusive().unwrap();
    let mut reader = bench.command(&["images"]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(reader.try_wait().unwrap().is_none(), "it did not wait");
    drop(exclusive);
    assert!(reader.wait().unwrap().success());
}

/// What it lacks is not what it does not need.
#[test]
fn x12_a_vault_without_a_part_of_it_is_damaged_and_not_empty() {
    let (bench, _, _) = two_images();
    for part in ["objects", "blobs/sha256"] {
        let (place, kept) = (bench.vault().join(part), bench.path("kept"));
        std::fs::rename(&place, &kept).unwrap();
        for verb in [&["gc"][..], &["images"], &["fsck"], &["verify", "app", "--trust", "signer.crt"]] {
            let run = bench.run(verb).refused(4, "X12");
            assert!(run.stderr.contains(&format!("{part} is missing")), "{}", run.stderr);
        }
        std::fs::rename(&kept, &place).unwrap();
    }
    bench.run(&["gc"]).ok();
    bench.run(&["verify", "app", "--trust", "signer.crt"]).ok();
}

/// What cannot be read is said to be so: root reads everything, so something else lies in its place.
#[test]
fn x01_what_cannot_be_read_is_not_taken_for_not_there() {
    let (bench, _, _) = two_images();
    let tag = bench.vault().join("tags/app");
    std::fs::remove_file(&tag).unwrap();
    std::fs::create_dir(&tag).unwrap();
    let run = bench.run(&["verify", "app", "--trust", "signer.crt"]).refused(1, "X01");
    assert!(run.stderr.contains("tags/app"), "{}", run.stderr);
    bench.run(&["gc"]).refused(1, "X01");
    std::fs::remove_dir(&tag).unwrap();
    bench.run(&["verify", "app", "--trust", "signer.crt"]).refused(2, "X04");
}

/// A shell in a mount namespace of its own, which goes away with it.
struct Elsewhere {
    shell: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Elsewhere {
    fn new(bench: &Bench) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh"]).current_dir(bench.dir.path());
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(shell.stdout.take().unwrap());
        Self { shell, answers }
    }

    /// Runs a line there and gives its exit code.
    fn run(&mut self, line: &str) -> String {
        let input = self.shell.stdin.as_mut().unwrap();
        writeln!(input, "({line}) >/dev/null; echo $?").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// What a shell in the bench's directory runs a verb by.
fn line(bench: &Bench, words: &str) -> String {
    format!("{} --vault vault {words} 2>/dev/null", bench.command(&[]).get_program().to_string_lossy())
}

/// The line that mounts `other` on `root`.
fn mount_other(bench: &Bench, options: &str) -> String {
    line(bench, &format!("mount other root --verity off {options}"))
}

#[test]
fn k04_what_is_mounted_anywhere_stays_until_it_is_not() {
    if !can_mount("gc of mounted images") {
        return;
    }
    for stack in ["", "--stack"] {
        let (bench, app, other) = two_images();
        std::fs::create_dir(bench.path("root")).unwrap();
        let mut elsewhere = Elsewhere::new(&bench);
        assert_eq!(elsewhere.run(&mount_other(&bench, stack)), "0");
        for name in ["app", "other"] {
            bench.run(&["untag", name]).ok();
        }
        let run = bench.run(&["gc", "--json"]).ok().json();
        assert_eq!(run["removed"]["images"], json!([app.digest.to_string()]), "{stack}");
        let mounted = &run["kept"]["mounted"];
        assert_eq!((&run["kept"]["images"], &run["kept"]["mounts"]), (&json!(1), &json!(1)));
        assert_eq!(mounted[0]["image"], other.digest.to_string(), "{run}");
        // Where, only those can tell who see it.
        let text = bench.run(&["gc"]).ok().stdout;
        assert!(text.contains(&format!("{} stays: it is mounted\n", other.digest)), "{text}");
        let read = "cat root/usr/bin/tool root/opt/other root/etc/gone";
        assert_eq!(elsewhere.run(read), "0", "{stack}");
        assert!(object(&bench, &[b'o'; 70_000]).exists());
        assert_eq!(elsewhere.run("umount root"), "0");
        let run = bench.run(&["gc", "--json"]).ok().json();
        assert_eq!(run["removed"]["images"], json!([other.digest.to_string()]), "{stack}");
        assert_eq!(bench.vault_files(), Vec::<String>::new());
    }
}

/// What keeps an image that nobody has a name for is told by name.
#[test]
fn k04_a_mount_that_keeps_an_image_is_named() {
    if !can_mount("gc names mounts") {
        return;
    }
    let (bench, _, other) = two_images();
    std::fs::create_dir(bench.path("root")).unwrap();
    // In a namespace of its own: those that other tests make meanwhile are copies of this one, with its mounts.
    let mut elsewhere = Elsewhere::new(&bench);
    assert_eq!(elsewhere.run(&mount_other(&bench, "")), "0");
    bench.run(&["untag", "other"]).ok();
    let gc = line(&bench, "gc");
    assert_eq!(elsewhere.run(&format!("{gc} >text && {gc} --json >json && umount root")), "0");
    let [text, run] = ["text", "json"].map(|name| std::fs::read_to_string(bench.path(name)).unwrap());
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    let target = run["kept"]["mounted"][0]["targets"][0].as_str().unwrap();
    assert!(target.ends_with("/root"), "{run}");
    assert!(text.contains(&format!("{} stays: it is mounted on {target}\n", other.digest)), "{text}");
    let run = bench.run(&["gc", "--json"]).ok().json();
    assert_eq!(run["removed"]["details"][0]["image"], other.digest.to_string());
}

#[test]
fn k04_a_mount_that_is_not_understood_stops_everything() {
    if !can_mount("gc beside an unknown stack") {
        return;
    }
    let (bench, _, other) = two_images();
    std::fs::create_dir(bench.path("root")).unwrap();
    let mut elsewhere = Elsewhere::new(&bench);
    assert_eq!(elsewhere.run(&mount_other(&bench, "--stack")), "0");
    // Somebody has taken its record away: what the stack is made of cannot be told.
    std::fs::remove_dir_all(bench.vault().join("images").join(other.digest.hex())).unwrap();
    let before = bench.vault_files();
    bench.run(&["gc"]).refused(7, "X08");
    assert_eq!(bench.vault_files(), before);
    assert_eq!(elsewhere.run("umount root"), "0");
    bench.run(&["gc"]).ok();
}
