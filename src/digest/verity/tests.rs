use super::*;

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// Size of a file of [`contents`] and its two digests, from fsverity-utils 1.5
/// (`fsverity digest --compact --hash-alg=…`).
const KNOWN_ANSWERS: [(usize, &str, &str); 13] = [
    (
        0,
        "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95",
        "ccf9e5aea1c2a64efa2f2354a6024b90dffde6bbc017825045dce374474e13d1\
         0adb9dadcc6ca8e17a3c075fbd31336e8f266ae6fa93a6c3bed66f9e784e5abf",
    ),
    (
        1,
        "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551",
        "9fcf5172b085b1c8f9365eecb37a1869e193a4705654a5829f11939cd01d5c0f\
         d97276be8cd9d49f76cfc8dcfeb80f8128e3548a1de50b56912b9e3fc7bde27b",
    ),
    (
        64,
        "bd5b94be3ac2d07abe2b7a025b155d10064547c3c50d1a2e184d213b8fd30646",
        "2bced09be4b4e1e3ae8b33fca03ca9a84fe3a50f372231289ec6a357df32ab2c\
         aaa1bba267818b26a7e616b732dc1515d8d143d0322daad25c850afd3b7e7f0c",
    ),
    (
        65,
        "08aa4b8fc1772a75a1414967335ab19febb622f66855385178a3010296790580",
        "00729b811fe5a54123849d80c058df1bc81c85310b7d0f105f717e6bb2712fc7\
         6b0e8b781e502c665de85be0b34e1e587b833bf05b52e87afc0f5d5018e50fd4",
    ),
    (
        4095,
        "841acbc4d3c22ad5f67a748aab2d3e5a4d21de6879a73cb6ec235049dd94dc40",
        "40b4d6dd12b2c76217a4d7189cec023b6b467245c230fdec36fe34988b7ccb98\
         192954f0126e34c7250c687899f72cd9e8cdb4b96c7bbc66d5ddb5f9cee0f08f",
    ),
    (
        4096,
        "2b41866549a2f4f4a80ebbb30aa8d8436ce675229143bf493d8dc6fce99081a0",
        "eb50a9410866050d8660abf6fa6087b3714945dfd467cba3a4476ea8a84ed9bf\
         cb75f5df71068d0f646027f1b839df553bff9482ebe9da154499182cd93889dc",
    ),
    (
        4097,
        "2492558cab5973a8b471d3a517cf3fc8ae04bffa6083e7d443e7839b65d94651",
        "ddc0a138af5af46ec8ccbabedfec469b5e51f987e33cf90c103f3d8b6c0aab83\
         49ba966c53b01111444756d7da116e3a09cd7a5c79b2ec9915dc1fc5df78aac4",
    ),
    (
        64 * 4096 - 1,
        "e691a6603e196f3ea74b284814918066cb038b04a5b98209f890b75a0c209834",
        "8d74fe85d49a6b8f6832182b282ce57fc4d97ea7a3741fa386a608d97a477c97\
         c7c3bee4c5fad8c9012608b107c375f02a7a0c661e74aa7cc33a496c004ba5e0",
    ),
    (
        64 * 4096,
        "f7656e09d2368042058b8f2c17aad27f2b84adb7d7f654251a4e3067a0325cca",
        "00ca2d0fef99b8afff05691b01eb6fd10f0ac50259ba3d683d417c2d4065a0d5\
         e368a657e5b725451325171ca6fcb08c56c6676758c5b0f698f8148b46e207e4",
    ),
    (
        64 * 4096 + 1,
        "bd9a3bebc6f7b39faed3360fb9e03a0911c1c6626a1fb7aeb54a834b43e0d280",
        "fd76b27cfb55405204be708c62b7c7078fa60a4626b8647fba6f96166806757a\
         15ee9dda8ae52c132b547685e78218e3c777c5bb4bbc8d6521fc87f2f2b27964",
    ),
    (
        128 * 4096,
        "6feaceaea1f345a5da49693b409602e6b1878a9484241670db45aef27aaec575",
        "b7bc181110a102ff475e4090b3463bf40267d89317e2b5e7192cf6a42a44cd33\
         72daaad9d305718742daa7b59f7ced8d6ccfdd39a5f644da47e0b5d6f43f5546",
    ),
    (
        128 * 4096 + 1,
        "64272326908c4b8fdd9de8dd28615fcb25d5bb0fca2a9949d29305f6ce54ac6c",
        "18c7a8a8411fd9e5677f24496649a8e58683e23433c73d9e429c7352df56fc82\
         94b6a8fda0a6845b0cf751f7ebffbc829b89020279d97584003bc595eb106437",
    ),
    (
        (5 << 20) + 3,
        "a5619d1ae64f9849d5279700617ad04dbb36da971ea12d5816080b72d86a5ef0",
        "846db09a3dd18cebbad4d4d3586d7967596921788533ce4148bb95fb52de6053\
         508f18c8c2fe38a49ff574edcad871efe1156eed860f79976054a7c47b7b575a",
    ),
];

fn contents(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn random(state: &mut u64, bound: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state % bound as u64) as usize
}

/// Computes the digest by definition once more, with whole levels in memory and one hash at a time.
fn by_definition(algorithm: Algorithm, data: &[u8]) -> VerityDigest {
    let hash = |bytes: &[u8]| match algorithm {
        Algorithm::Sha256 => Sha256::digest(bytes).to_vec(),
        Algorithm::Sha512 => Sha512::digest(bytes).to_vec(),
    };
    let mut level = data.to_vec();
    loop {
        level.resize(level.len().next_multiple_of(BLOCK_SIZE), 0);
        level = level.chunks(BLOCK_SIZE).flat_map(hash).collect();
        if level.len() <= algorithm.digest_size() {
            break;
        }
    }
    level.resize(64, 0);
    let size = (data.len() as u64).to_le_bytes();
    let parameters = [1, algorithm.kernel_id(), 12, 0, 0, 0, 0, 0];
    let descriptor = [&parameters[..], &size, &level, &[0; 176]].concat();
    VerityDigest::new(algorithm, &hash(&descriptor)).unwrap()
}

#[test]
fn known_answers() {
    for (size, sha256, sha512) in KNOWN_ANSWERS {
        let data = contents(size);
        for (algorithm, hex) in ALGORITHMS.into_iter().zip([sha256, sha512]) {
            let expected = VerityDigest::from_hex(algorithm, hex).unwrap();
            assert_eq!(verity_digest(algorithm, &data), expected, "{size} bytes, one shot");
            let mut hasher = VerityHasher::new(algorithm);
            hasher.update(&data);
            assert_eq!(hasher.finish(), expected, "{size} bytes, streamed");
        }
    }
}

/// Tries sizes around the counts of blocks that fill the lanes, a batch, several batches.
#[test]
fn sizes_around_the_edges() {
    for algorithm in ALGORITHMS {
        for blocks in [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33] {
            for size in [blocks * BLOCK_SIZE - 1, blocks * BLOCK_SIZE, blocks * BLOCK_SIZE + 1] {
                let data = contents(size);
                let expected = by_definition(algorithm, &data);
                assert_eq!(verity_digest(algorithm, &data), expected, "{size} bytes");
            }
        }
    }
}

#[test]
fn chunking_does_not_matter() {
    let mut state = 0x2545_f491_4f6c_dd1d;
    for round in 0..16 {
        let data = contents(random(&mut state, 200_000));
        // Mostly small pieces, mostly large ones, and everything between.
        let bound = [3000, 4097, 40_000, 120_000][round % 4];
        for algorithm in ALGORITHMS {
            let mut hasher = VerityHasher::new(algorithm);
            let mut rest = &data[..];
            while !rest.is_empty() {
                let piece = random(&mut state, bound).min(rest.len());
                hasher.update(&rest[..piece]);
                rest = &rest[piece..];
            }
            assert_eq!(hasher.finish(), verity_digest(algorithm, &data), "{} bytes", data.len());
        }
    }
}

#[test]
fn memory_does_not_grow_with_the_file() {
    let mut hasher = VerityHasher::new(Algorithm::Sha512);
    let piece = contents(100_003);
    for _ in 0..24 {
        hasher.update(&piece);
        assert!(hasher.levels.iter().all(|level| level.len() < BATCH_SIZE));
    }
    assert!(hasher.levels.len() <= 4);
}

#[test]
fn algorithm_names() {
    for algorithm in ALGORITHMS {
        assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
    }
    assert_eq!("sha256".parse(), Ok(Algorithm::Sha256));
    assert_eq!("sha512".parse(), Ok(Algorithm::Sha512));
    for name in ["", "SHA256", "sha384", "sha256 ", "fsverity-sha256", "fsverity-sha512-16"] {
        let error = name.parse::<Algorithm>().unwrap_err();
        assert_eq!(error.to_string(), format!("unknown fs-verity algorithm {name:?}"));
    }
}

#[test]
fn digests_as_text() {
    let bytes: Vec<u8> = (0xe8..0xff).chain(0..9).collect();
    let digest = VerityDigest::new(Algorithm::Sha256, &bytes).unwrap();
    let hex = "e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfe000102030405060708";
    assert_eq!(digest.to_hex(), hex);
    assert_eq!(format!("{digest} {digest:?}"), format!("{hex} {hex}"));
    assert_eq!(digest.object_path(), format!("e8/{}", &hex[2..]));
    assert_eq!(digest.as_bytes(), bytes);
    assert_eq!(VerityDigest::from_hex(Algorithm::Sha256, hex), Some(digest));

    assert_eq!(VerityDigest::new(Algorithm::Sha512, &bytes), None);
    assert_eq!(VerityDigest::new(Algorithm::Sha256, &bytes[1..]), None);
    assert_eq!(VerityDigest::from_hex(Algorithm::Sha512, hex), None);
    for bad in [
        String::new(),
        hex.to_uppercase(),
        hex[1..].to_owned(),
        format!("{hex}0"),
        format!("{hex}00"),
        format!("+{}", &hex[1..]),
        format!("{}\u{e9}", &hex[2..]),
    ] {
        assert_eq!(VerityDigest::from_hex(Algorithm::Sha256, &bad), None, "{bad:?}");
    }
}

/// Computes tree sizes by fsverity.rst: 128 digests of SHA-256 in a block, 64 of SHA-512; a file of one block has no
/// tree.
#[test]
fn the_size_of_a_tree_is_that_of_its_levels() {
    const BLOCK: u64 = 4096;
    for (blocks, sha256, sha512) in [(0, 0, 0), (1, 0, 0), (2, 1, 1), (64, 1, 1), (65, 1, 3), (128, 1, 3), (129, 3, 4)]
    {
        assert_eq!(Algorithm::Sha256.tree_size(blocks * BLOCK), sha256 * BLOCK, "{blocks}");
        assert_eq!(Algorithm::Sha512.tree_size(blocks * BLOCK), sha512 * BLOCK, "{blocks}");
    }
    assert_eq!(Algorithm::Sha256.tree_size(BLOCK + 1), BLOCK);
}
