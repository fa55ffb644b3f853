//! layerseal beside the tools that do the same or a part of it, on the same images, in turn. `make bench` runs
//! it by benches/run.sh, which makes the images and gets the tools.
//!
//! usage: beside OF... measures; beside report RESULTS DIR writes the document and its pictures; beside compare RESULTS
//! PAGE prints ratios and those of the page

mod aims;
mod chart;
mod compare;
mod floors;
mod growth;
mod numbers;
mod previous;
mod reading;
mod report;
mod tools;
mod vault;

use support::measure;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, results, dir] = args.as_slice()
        && word == "report"
    {
        return report::write(results.as_ref(), dir.as_ref());
    }
    if let [word, results, page] = args.as_slice()
        && word == "compare"
    {
        return compare::print(results.as_ref(), page.as_ref());
    }
    if let [word, dir] = args.as_slice()
        && word == floors::DIGESTS
    {
        return floors::digests(dir.as_ref());
    }
    // `cargo bench` alone and `cargo test` come by as well.
    let Some(place) = tools::Place::from_environment() else { return };
    for of in &args {
        println!("{of}");
        match of.as_str() {
            "pull" => {
                measure::settle();
                vault::pull(&place);
            }
            "vault" => vault::sign_and_mount(&place),
            "directory" => vault::directory(&place),
            "growth" => {
                measure::settle();
                growth::all(&place);
            }
            "reading" => reading::all(&place),
            other => panic!("nothing measures {other}"),
        }
    }
}
