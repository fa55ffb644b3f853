use crate::cli::{json, output};
use crate::error::Result;
use crate::ops::{Context, PushRequest, push};

/// Runs `layerseal push` and `layerseal export-signatures`.
pub(super) fn run(context: &Context, request: &PushRequest, json: bool) -> Result<()> {
    let pushed = push(context, request)?;
    let to = request.to.to_string();
    if json {
        let seals = pushed.seals.iter().map(ToString::to_string).collect();
        output::document(json::Pushed { image: pushed.image.to_string(), seals, to });
        return Ok(());
    }
    output::line(pushed.image);
    match pushed.seals.len() {
        0 => {}
        1 => output::note(format!("with its seal, to {to}")),
        number => output::note(format!("with its {number} seals, to {to}")),
    }
    Ok(())
}
