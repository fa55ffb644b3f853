//! What is wrong with a file in TOML, and where.

/// Returns the number of the line, from one, and what the parser says about it; the parser's own text has several lines.
pub fn in_toml(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    line.map_or_else(|| error.message().to_owned(), |line| format!("line {line}: {}", error.message()))
}

#[cfg(test)]
mod tests {
    use super::in_toml;

    #[test]
    fn the_line_is_named() {
        let said = |text: &str| in_toml(text, &toml::from_str::<toml::Table>(text).unwrap_err());
        assert!(said("version = 1\n\nmode = \n").starts_with("line 3: "), "{}", said("version = 1\n\nmode = \n"));
        assert!(said("a = 1\na = 2\n").starts_with("line 2: "), "{}", said("a = 1\na = 2\n"));
        let unknown = toml::from_str::<std::collections::BTreeMap<String, u8>>("a = 1\nb = \"x\"\n").unwrap_err();
        assert!(in_toml("a = 1\nb = \"x\"\n", &unknown).starts_with("line 2: "));
    }
}
