//! From a function to the function and its tool.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, Error, Expr, ExprLit, FnArg, Item, ItemFn, Lit, Meta, Result, ReturnType, Safety,
    Type, ext::IdentExt, spanned::Spanned,
};

use crate::options::Options;

/// The function and its tool; or the function and what is wrong with it, so that nothing else
/// that is wrong is the attribute's fault.
pub(crate) fn expand(options: TokenStream, item: &TokenStream) -> TokenStream {
    let tool = syn::parse2(options).and_then(|options| {
        let function = match syn::parse2(item.clone())? {
            Item::Fn(function) => function,
            other => return Err(Error::new(other.span(), "`#[tool]` goes on a function")),
        };
        make(&options, &function)
    });
    let tool = tool.unwrap_or_else(Error::into_compile_error);
    quote!(#item #tool)
}

fn make(options: &Options, function: &ItemFn) -> Result<TokenStream> {
    let signature = Signature::of(function)?;
    let name = &function.sig.ident;
    let tool = type_name(name)?;
    let visibility = &function.vis;
    let cfgs: Vec<&Attribute> =
        function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
    let docs: Vec<&Attribute> =
        function.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).collect();
    let id = options.id.as_ref().map_or_else(|| name.unraw().to_string(), |id| id.value());
    let label = options.name.iter().map(|label| quote!(.name(#label)));
    let description = description(&docs);
    let description = (!description.is_empty()).then(|| quote!(.description(#description)));
    let effect = options.effect.then(|| quote!(.effect()));

    let Signature { input, output, .. } = &signature;
    let returned =
        quote_spanned!(output.span()=> <#output as ::dynamic_flow::tool::ToolReturn>::Value);
    let input_name = format_ident!("{}", if signature.takes_input { "input" } else { "_input" });
    let context_name =
        format_ident!("{}", if signature.takes_context { "context" } else { "_context" });
    let argument = signature.takes_input.then(|| quote!(#input_name,));
    let context = signature.takes_context.then(|| quote!(&#context_name));
    let call = quote!(#name(#argument #context));
    let call = if function.sig.asyncness.is_some() { quote!(#call.await) } else { call };

    Ok(quote! {
        #(#cfgs)*
        #(#docs)*
        #[derive(Debug, Clone, Copy, Default)]
        #visibility struct #tool;

        #(#cfgs)*
        impl ::dynamic_flow::TypedTool for #tool {
            type Input = #input;
            type Output = #returned;

            fn into_tool(
                self,
            ) -> ::dynamic_flow::Result<::std::sync::Arc<dyn ::dynamic_flow::Tool>> {
                let tool = ::dynamic_flow::tool::FnTool::<#input, _>::with_context(
                    #id,
                    |#input_name: #input, #context_name: ::dynamic_flow::ToolContext| async move {
                        #call
                    },
                );
                ::dynamic_flow::TypedTool::into_tool(tool #(#label)* #description #effect)
            }
        }
    })
}

/// What the tool takes and gives.
struct Signature {
    input: Type,
    output: Type,
    takes_input: bool,
    takes_context: bool,
}

impl Signature {
    fn of(function: &ItemFn) -> Result<Self> {
        let signature = &function.sig;
        if let Some(receiver) = signature.receiver() {
            let message = "`#[tool]` goes on a free function: a tool has no `self`";
            return Err(Error::new(receiver.span(), message));
        }
        if !signature.generics.params.is_empty() {
            let message = "a tool has no type parameters or lifetimes: its types are its schemas";
            return Err(Error::new(signature.generics.span(), message));
        }
        if !matches!(signature.safety, Safety::Default) {
            return Err(Error::new(signature.safety.span(), "a tool is safe to call"));
        }
        let ReturnType::Type(_, output) = &signature.output else {
            let message = "a tool returns a `Result`: add `-> Result<…, ToolError>`";
            return Err(Error::new(signature.ident.span(), message));
        };
        let mut types = signature.inputs.iter().filter_map(|argument| match argument {
            FnArg::Typed(argument) => Some(&*argument.ty),
            FnArg::Receiver(_) => None,
        });
        let (first, second, third) = (types.next(), types.next(), types.next());
        if let Some(third) = third {
            let message = "a tool takes one input, and `&ToolContext` if it likes; \
                           put several inputs in a struct or a tuple";
            return Err(Error::new(third.span(), message));
        }
        let (input, context) = match (first, second) {
            (Some(only), None) if is_context(only) => (None, Some(only)),
            (first, second) => (first, second),
        };
        if let Some(context) = context
            && !is_context(context)
        {
            let message = "the second argument of a tool is `&ToolContext`; \
                           put several inputs in a struct or a tuple";
            return Err(Error::new(context.span(), message));
        }
        match input {
            Some(Type::Reference(reference)) => {
                Err(Error::new(reference.span(), "a tool takes its input by value"))
            }
            Some(Type::ImplTrait(opaque)) => {
                let message = "a tool names the type of its input: it is its schema";
                Err(Error::new(opaque.span(), message))
            }
            _ => Ok(()),
        }?;
        Ok(Self {
            takes_input: input.is_some(),
            takes_context: context.is_some(),
            input: input.cloned().unwrap_or_else(|| syn::parse_quote!(())),
            output: (**output).clone(),
        })
    }
}

/// Whether it is `&ToolContext`, however the path to it is written.
fn is_context(argument: &Type) -> bool {
    let Type::Reference(reference) = argument else { return false };
    let Type::Path(path) = &*reference.elem else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "ToolContext")
}

/// `ValidateOrder` for `validate_order`.
fn type_name(function: &Ident) -> Result<Ident> {
    let name = function.unraw().to_string();
    let mut camel = String::new();
    for word in name.split('_') {
        let mut letters = word.chars();
        camel.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        camel.push_str(letters.as_str());
    }
    if camel == name || syn::parse_str::<Ident>(&camel).is_err() {
        let message = format!(
            "a tool's function has a name in snake_case: `{name}` makes no other name in CamelCase"
        );
        return Err(Error::new(function.span(), message));
    }
    Ok(format_ident!("{camel}", span = function.span()))
}

/// The text of doc comments, without the space that follows `///`.
fn description(docs: &[&Attribute]) -> String {
    let lines = docs.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(doc) => match &doc.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<String> =
        lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect();
    lines.join("\n").trim().to_owned()
}
