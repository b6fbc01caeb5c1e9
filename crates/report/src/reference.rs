//! Which row a row is compared with.
use crate::{
    Loaded, Run,
    plan::{alike, comparable},
};

/// What the rows of a table are compared with; each is a column of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The row with the method `kd` alone.
    Kd,
    /// The row without a teacher.
    Scratch,
    /// The first of several variants.
    First,
}

impl Reference {
    /// In the order of the columns.
    pub const ALL: [Self; 3] = [Self::Kd, Self::Scratch, Self::First];

    /// The name in tables and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kd => "kd",
            Self::Scratch => "scratch",
            Self::First => "first",
        }
    }

    /// The row to compare `group` with. It has the same student, data and epochs, and is the only one: of all rows with
    /// the group's settings apart from teacher and methods, or else of all rows, or else the one of that name.
    #[must_use]
    pub fn of<'g>(self, groups: &'g [Loaded], group: &Loaded) -> Option<&'g Loaded> {
        let mut others = groups.iter().filter(|other| !std::ptr::eq::<Loaded>(*other, group));
        if self == Self::First {
            return others.find(|other| Some(&other.name) == group.variant_of.as_ref());
        }
        let fits = |other: &&Loaded| self.is(other) && has_value(other) && pair(other, group, comparable);
        let all: Vec<&Loaded> = if self.is(group) { Vec::new() } else { others.filter(fits).collect() };
        let exact: Vec<&Loaded> = all.iter().copied().filter(|other| pair(other, group, alike)).collect();
        match if exact.is_empty() { all } else { exact }.as_slice() {
            [only] => Some(only),
            several => several.iter().copied().find(|other| other.name.eq_ignore_ascii_case(self.name())),
        }
    }

    /// The row that all rows share that have one.
    #[must_use]
    pub fn shared(self, groups: &[Loaded]) -> Option<&Loaded> {
        let mut all = groups.iter().filter_map(|group| self.of(groups, group));
        let first = all.next()?;
        all.all(|other| std::ptr::eq(other, first)).then_some(first)
    }

    fn is(self, group: &Loaded) -> bool {
        let fits = |run: &Run| match self {
            Self::Kd => run.summary.methods == [self.name()],
            _ => run.summary.teacher.is_none() && run.summary.methods.is_empty(),
        };
        !group.runs.is_empty() && group.runs.iter().all(fits)
    }
}

fn has_value(group: &Loaded) -> bool {
    !group.test().is_empty() || !group.held_out().is_empty()
}

fn pair(a: &Loaded, b: &Loaded, fits: fn(&Run, &Run) -> bool) -> bool {
    a.runs.first().zip(b.runs.first()).is_some_and(|(a, b)| fits(a, b))
}
