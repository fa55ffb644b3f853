//! Man pages and completions in contrib/ are what the command line is.
#![allow(missing_docs)]

mod common;

use clap::CommandFactory as _;

#[test]
fn every_verb_has_its_man_page() {
    let contrib = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib");
    for verb in layerseal::cli::args::Args::command().get_subcommands() {
        let page = std::fs::read_to_string(contrib.join(format!("man/layerseal-{}.1", verb.get_name())))
            .unwrap_or_else(|e| panic!("{}: {e}; run `make docs`", verb.get_name()));
        for option in verb.get_arguments().filter_map(clap::Arg::get_long) {
            let shown = format!("\\-\\-{}", option.replace('-', "\\-"));
            assert!(page.contains(&shown), "{} --{option}: run `make docs`", verb.get_name());
        }
    }
    let bash = std::fs::read_to_string(contrib.join("completions/layerseal.bash")).unwrap();
    assert!(bash.contains("export-signatures"));
}

#[test]
fn exit_codes_are_documented_from_the_enum() {
    let help = common::Bench::new().run(&["--help"]).ok().stdout;
    for class in layerseal::report::Class::ALL {
        assert!(help.replace("\n", " ").contains(&format!("{} {}", class.exit_code(), class.describe())), "{class:?}");
    }
}
