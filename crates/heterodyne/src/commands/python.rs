//! Lines of Python that classify a picture with an exported folder as `heterodyne predict` does.
use std::path::Path;

use heterodyne_export::{CONFIG, Export, ONNX, TORCHSCRIPT};
use heterodyne_nn::{CropMode, InputSpec};

/// The picture that the lines read.
pub const PICTURE: &str = "picture.jpg";

/// The lines for the export `made` at `folder`: with timm, else with TorchScript, else with ONNX; `None` if none of
/// them was written.
pub fn lines(made: &Export, folder: &Path, input: &InputSpec, named: bool) -> Option<String> {
    let written = |name: &str| made.files.iter().any(|file| file.name == name);
    let place = |name: &str| quoted(&folder.join(name).display().to_string());
    if made.timm.is_some() {
        return Some(timm(&quoted(&format!("local-dir:{}", folder.display())), &place(CONFIG), named));
    }
    // A millionth is far below a level of a picture.
    let short = |values: [f64; 3]| values.map(|v| (v * 1e6).round() / 1e6);
    let normalised = format!(
        "x = (numpy.asarray(image) / 255 - {:?}) / {:?}\nx = x.astype(\"float32\").transpose(2, 0, 1)[None]\n",
        short(input.mean),
        short(input.std)
    );
    let image = open() + &resized(input) + &normalised;
    let head = |packages: &str| format!("import {packages}\nfrom PIL import Image, ImageOps\n");
    if written(TORCHSCRIPT) {
        let about = "about = {\"heterodyne.json\": \"\"}\n";
        let load = format!("model = torch.jit.load({}, _extra_files=about)\n", place(TORCHSCRIPT));
        let run = "p = model(torch.from_numpy(x)).softmax(-1)[0]\n";
        let names = "json.loads(about[\"heterodyne.json\"])[\"class_names\"]";
        return Some(format!("{}{about}{load}{image}{run}{}", head("json, numpy, torch"), shown(names, named)));
    }
    written(ONNX).then(|| {
        let load = format!("model = onnxruntime.InferenceSession({})\n", place(ONNX));
        let run = "z = model.run(None, {\"images\": x})[0][0]\n\
                   p = numpy.exp(z - z.max()) / numpy.exp(z - z.max()).sum()\n";
        let about = "model.get_modelmeta().custom_metadata_map[\"heterodyne\"]";
        let names = format!("json.loads({about})[\"class_names\"]");
        format!("{}{load}{image}{run}{}", head("json, numpy, onnxruntime"), shown(&names, named))
    })
}

fn timm(name: &str, config: &str, named: bool) -> String {
    let json = if named { "import json\n" } else { "" };
    let names = format!("json.load(open({config}))[\"label_names\"]");
    format!(
        "{json}import timm\nfrom PIL import Image, ImageOps\n\
         from timm.data import create_transform, resolve_model_data_config\n\
         model = timm.create_model({name}, pretrained=True).eval()\n\
         transform = create_transform(**resolve_model_data_config(model))\n{}\
         p = model(transform(image)[None]).softmax(-1)[0]\n{}",
        open(),
        shown(&names, named)
    )
}

/// Opens the picture upright and in colour.
fn open() -> String {
    format!("image = ImageOps.exif_transpose(Image.open({})).convert(\"RGB\")\n", quoted(PICTURE))
}

/// The evaluation transform but for the normalisation, with Pillow.
fn resized(input: &InputSpec) -> String {
    let InputSpec { img, mean, crop_mode, interpolation, .. } = input;
    let full = input.resized();
    let filter = format!("Image.Resampling.{}", interpolation.to_string().to_uppercase());
    let size = match crop_mode {
        CropMode::Center => format!("[{full} * side // min(image.size) for side in image.size]"),
        CropMode::Squash => format!("[{full}, {full}]"),
        CropMode::Border => format!("[max(1, round(side / (max(image.size) / {full}))) for side in image.size]"),
    };
    let resize = format!("image = image.resize({size}, {filter})\n");
    if full == *img && *crop_mode == CropMode::Squash {
        return resize;
    }
    let corner = format!("left, top = [round((side - {img}) / 2) for side in image.size]\n");
    if *crop_mode != CropMode::Border {
        return format!("{resize}{corner}image = image.crop((left, top, left + {img}, top + {img}))\n");
    }
    let [r, g, b] = mean.map(|m| (255.0 * m).round_ties_even().clamp(0.0, 255.0));
    // A margin is rounded down, a cut to even.
    let corner = format!(
        "left, top = [-round((side - {img}) / 2) if side > {img} else ({img} - side) // 2 for side in image.size]\n"
    );
    format!(
        "{resize}{corner}square = Image.new(\"RGB\", ({img}, {img}), ({r}, {g}, {b}))\n\
         square.paste(image, (left, top))\nimage = square\n"
    )
}

/// Prints the most probable class and its probability.
fn shown(names: &str, named: bool) -> String {
    let best = "best = int(p.argmax())\n";
    match named {
        true => format!("{best}print({names}[best], float(p[best]))\n"),
        false => format!("{best}print(best, float(p[best]))\n"),
    }
}

/// A text as a literal of Python; one of JSON is one of Python too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
