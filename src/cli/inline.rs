//! Seals in the image itself: a new manifest, and so a new image, under the old one's tag.

use crate::cli::args;
use crate::cli::home::{Home, Located, Place};
use crate::cli::output;
use crate::cli::seal::{Item, Plan};
use crate::oci::Reference;
use crate::report::{Case, Refusal, Result};
use crate::seal::{Binding, Part, Role, other_annotations, write_inline, write_label};

/// `layerseal seal`
pub(super) fn seal(home: &Home, args: &args::Seal) -> Result<()> {
    let located = home.locate(&args.image, args.platform.as_ref())?;
    in_layout(&located)?;
    let images = located.images(args.algorithm, false, &home.budget)?;
    if !args.inline {
        let (_, merged) = images.merged.as_ref().map_err(|r| r.clone().within("the label names the merged tree"))?;
        let (config, manifest) = write_label(&located.image, merged)?;
        located.store().write(&config)?;
        return replace(&located, &args.image, &manifest);
    }
    let binding = Binding::new(&located.image, &images.digests()?, &[], None)?;
    let plan = Plan { located, images, binding };
    let unsigned: Vec<Part> = plan.items().into_iter().map(|item| part(item, Vec::new())).collect();
    let manifest = write_inline(&plan.located.image, &unsigned, None)?;
    replace(&plan.located, &args.image, &manifest)
}

/// `layerseal sign --inline`
pub(super) fn sign(plan: Plan, reference: &Reference, der: impl Fn(&Item<'_>) -> Result<Vec<u8>>) -> Result<()> {
    in_layout(&plan.located)?;
    // The manifest that holds the statement is the one that it is about.
    let annotations = other_annotations(&plan.located.image);
    let plan = Plan { binding: Binding { subject: None, annotations, ..plan.binding.clone() }, ..plan };
    let (mut parts, mut statement) = (Vec::new(), Vec::new());
    for item in plan.items().into_iter().filter(|i| i.role != Role::Manifest) {
        let signature = der(&item)?;
        match item.role {
            Role::Binding => statement = signature,
            _ => parts.push(part(item, signature)),
        }
    }
    let text = plan.binding.text();
    let manifest = write_inline(&plan.located.image, &parts, Some((&text, &statement)))?;
    replace(&plan.located, reference, &manifest)
}

fn part(item: Item<'_>, der: Vec<u8>) -> Part<'_> {
    Part { role: item.role, digest: item.digest, der, erofs: None }
}

fn in_layout(located: &Located) -> Result<()> {
    match &located.place {
        Place::Layout(_) => Ok(()),
        _ => {
            let why = "a seal in the image itself is a new image: copy it into a layout (oci:DIR) first, and push that";
            Err(Refusal::new(Case::Usage, located.image.digest.to_string(), why))
        }
    }
}

/// Stores the new manifest under the old one's tag, and says its digest.
fn replace(located: &Located, reference: &Reference, manifest: &[u8]) -> Result<()> {
    let (Place::Layout(layout), Reference::Layout { tag, .. }) = (&located.place, reference) else {
        return in_layout(located);
    };
    output::line(layout.replace_image(&located.image.digest, tag.as_deref(), manifest)?);
    Ok(())
}
