"""What both sides of a configuration read: weights of both networks and of the method's heads, images, labels."""

from pathlib import Path

import torch
from safetensors.torch import save_file

import networks
import pairs
import peer

SEED = 20240607
NUM_BATCHES = 4


def images(count, img):
    """uint8 (count,3,img,img), white noise. Smooth images leave channels of a random conv net almost without variance,
    and its batch norms then amplify rounding until two correct implementations differ."""
    return torch.randint(256, (count, 3, img, img), dtype=torch.uint8)


def store(module, path):
    """A state dict without the counters of batch norms; None where nothing is left."""
    state = {
        name: t.contiguous() for name, t in module.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    if not state:
        return None
    save_file(state, path)
    return str(path)


def side(network, img, folder, classes):
    net = networks.create(network.model, img, classes, network.options)
    path = store(net, folder / f"{network.model}.safetensors")
    return net, dict(model=network.model, img=img, options=network.options, weights=path, **network.normalisation)


def job(pair, method, folder, precision="fp32", device="cpu", threads=1, batch=None, classes=pairs.CLASSES):
    """The job line of one configuration, without `spawned_at` and `mode`; its files are written to `folder`."""
    folder = Path(folder)
    torch.manual_seed(SEED)
    batch = batch or pair.batch
    teacher, teacher_job = side(pair.teacher, pair.img, folder, classes)
    student, student_job = side(pair.student, pair.img, folder, classes)
    data = dict(images=images(NUM_BATCHES * batch, pair.img), labels=torch.randint(classes, (NUM_BATCHES * batch,)))
    save_file(data, folder / "inputs.safetensors")
    line = dict(
        teacher=teacher_job,
        student=student_job,
        method=method,
        method_options={},
        precision=precision,
        device=device,
        batch=batch,
        classes=classes,
        inputs=str(folder / "inputs.safetensors"),
        threads=threads,
        optimizer=dict(lr=pair.lr, **pairs.OPTIMIZER),
    )
    heads = torch.nn.ModuleDict({method: peer.make_method(line, student, teacher)})
    return line | dict(heads=store(heads, folder / "heads.safetensors"))
