use crate::cli::{args, json, output};
use crate::error::{Case, Refusal, Result};
use crate::vault::{list_floors, reset_floor};

/// Runs `layerseal floors list`.
pub(super) fn list(args: &args::FloorsList) -> Result<()> {
    let floors = list_floors()?;
    if args.json {
        let floor = |(name, sequence)| json::Floor { name, sequence };
        output::document(json::Floors { floors: floors.into_iter().map(floor).collect() });
        return Ok(());
    }
    if floors.is_empty() {
        output::note("no floors: no build with a sequence was accepted under rollback = \"refuse\"");
        return Ok(());
    }
    let mut table = vec![["NAME", "SEQUENCE"].map(str::to_owned).to_vec()];
    let row = |(name, sequence): (String, Option<u64>)| {
        vec![name, sequence.map_or_else(|| "damaged".to_owned(), |sequence| sequence.to_string())]
    };
    table.extend(floors.into_iter().map(row));
    output::table(&table);
    Ok(())
}

/// Runs `layerseal floors reset`.
pub(super) fn reset(args: args::FloorsReset) -> Result<()> {
    if !reset_floor(&args.name)? {
        return Err(Refusal::new(Case::NoFloor, args.name, ""));
    }
    match args.json {
        true => output::document(json::FloorReset { name: args.name }),
        false => output::line(format!("{}: older builds are accepted again", args.name)),
    }
    Ok(())
}
