//! The two networks and all that is computed with them: everything of a run but its data.
use heterodyne_nn::{ParamStore, Pass, catch};
use heterodyne_run::recipe::schema::Recipe;
use heterodyne_shim::NoGrad;
use tch::{Device, Tensor};

use crate::{
    Error, Result,
    ema::Ema,
    net::Net,
    objective::{Lesson, Objective, Weighted},
    optim::Optimizer,
    plan::Planned,
};

/// Student, teacher, loss and optimizer.
pub struct Pair {
    /// The network that is trained.
    pub student: Net,
    /// The network that teaches.
    pub teacher: Option<Net>,
    /// The loss, with the methods' heads.
    pub objective: Objective,
    /// Over the student and the heads.
    pub optimizer: Optimizer,
    /// The student's average, where the recipe asks for one.
    pub ema: Option<Ema>,
    /// Largest 2-norm of the gradient.
    pub clip: Option<f64>,
}

impl Pair {
    /// Builds the methods' heads for two networks, and the optimizer over them and the student. `sample_classes` holds
    /// the class of every training image.
    pub fn new(
        student: Net,
        teacher: Option<Net>,
        planned: &[Planned],
        recipe: &Recipe,
        sample_classes: &[i64],
    ) -> Result<Self> {
        let heads = ParamStore::new(student.device(), recipe.seed ^ 0x6865_6164);
        let mut methods = Vec::new();
        if let Some(teacher) = &teacher {
            for m in planned {
                let build =
                    || m.settings.build(&heads.root().sub(&m.name), student.taps(), teacher.taps(), sample_classes);
                let method = catch(|| format!("building the heads of {}", m.name), build)?;
                methods.push(Weighted { name: m.name.clone(), weight: m.weight.clone(), method });
            }
        }
        let mut parameters = student.store.parameters();
        parameters.extend(heads.parameters().into_iter().map(|(name, t, role)| (format!("heads.{name}"), t, role)));
        let optimizer = Optimizer::new(&recipe.optim, parameters)?;
        let ema = recipe.train.ema.map(|decay| Ema::new(&student.store, decay));
        let epochs = f64::from(recipe.train.epochs);
        let objective =
            Objective { ce: recipe.loss.ce, smoothing: recipe.train.label_smoothing, epochs, methods, heads };
        Ok(Self { student, teacher, objective, optimizer, ema, clip: recipe.train.clip })
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> Device {
        self.student.device()
    }

    /// What the teacher says of uint8 images (B,3,H,W) on the device, as far as the methods read it. The rest of its
    /// output is freed before the student runs.
    pub fn teach(&self, images: &Tensor) -> Result<Lesson> {
        let teacher = self
            .teacher
            .as_ref()
            .ok_or_else(|| Error::Plan("a method needs a teacher, and there is none".to_owned()))?;
        let _guard = NoGrad::new();
        let output = teacher.forward(images, Pass { train: false, taps: self.objective.reads_teacher_taps() })?;
        self.objective.observe(&output)
    }
}
