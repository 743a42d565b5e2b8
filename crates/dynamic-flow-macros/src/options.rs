//! What stands in the brackets: `#[tool(effect, id = "…", name = "…")]`.

use syn::{
    Error, Ident, LitStr, Result, Token,
    parse::{Parse, ParseStream},
};

#[derive(Default)]
pub(crate) struct Options {
    pub(crate) effect: bool,
    pub(crate) id: Option<LitStr>,
    pub(crate) name: Option<LitStr>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        while !input.is_empty() {
            let option: Ident = input.parse()?;
            let twice = match option.to_string().as_str() {
                "effect" => std::mem::replace(&mut options.effect, true),
                "id" => options.id.replace(text(input)?).is_some(),
                "name" => options.name.replace(text(input)?).is_some(),
                other => {
                    let message =
                        format!("unknown option `{other}`; there are `effect`, `id` and `name`");
                    return Err(Error::new(option.span(), message));
                }
            };
            if twice {
                return Err(Error::new(option.span(), format!("`{option}` is there twice")));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

fn text(input: ParseStream<'_>) -> Result<LitStr> {
    input.parse::<Token![=]>()?;
    let text: LitStr = input.parse()?;
    if text.value().is_empty() {
        return Err(Error::new(text.span(), "must not be empty"));
    }
    Ok(text)
}
