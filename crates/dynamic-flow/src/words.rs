//! Guesses at what somebody meant.

/// `; did you mean …?` if one of the known words is near, or else the list of them.
pub(crate) fn did_you_mean<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> String {
    let known: Vec<&str> = known.collect();
    if let Some(candidate) = nearest(word, known.iter().copied()) {
        return format!("; did you mean `{candidate}`?");
    }
    let words: Vec<String> = known.iter().map(|candidate| format!("`{candidate}`")).collect();
    if words.is_empty() { String::new() } else { format!("; known are {}", words.join(", ")) }
}

/// The known word that somebody may have meant.
pub(crate) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    known
        .map(|candidate| (distance(word, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().div_ceil(3))
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, taken out, replaced or swapped with their neighbors.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_guessed_and_far_ones_are_not() {
        let known = ["description", "filter", "let", "set"];
        let guess = |word| did_you_mean(word, known.into_iter());
        assert_eq!(guess("fliter"), "; did you mean `filter`?");
        assert_eq!(guess("desciption"), "; did you mean `description`?");
        assert_eq!(guess("ste"), "; did you mean `set`?");
        assert_eq!(guess("loop"), "; known are `description`, `filter`, `let`, `set`");
        assert_eq!(did_you_mean("loop", [].into_iter()), "");
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
