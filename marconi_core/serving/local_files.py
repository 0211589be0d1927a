"""Folders as SGLang wants them, from the single files that this repository has."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from marconi_core.serving.spec import ServerSpec

# Without a chat model's own template: the roles as text. It suffices to test the interface.
PLAIN_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@contextlib.contextmanager
def with_local_files(spec: ServerSpec) -> Iterator[ServerSpec]:
    """Yield the spec with folders for model and tokenizer; made ones are deleted in the end."""
    with tempfile.TemporaryDirectory(prefix="marconi-server-") as name:
        folder = Path(name)
        made: dict[str, str] = {}
        if spec.config_file is not None:
            (folder / "model").mkdir()
            shutil.copyfile(spec.config_file, folder / "model" / "config.json")
            made["model"] = str(folder / "model")
        if spec.tokenizer is not None and Path(spec.tokenizer).is_file():
            made["tokenizer"] = str(_tokenizer_folder(Path(spec.tokenizer), folder / "tokenizer"))
        yield spec.model_copy(update=made)


def _tokenizer_folder(file: Path, folder: Path) -> Path:
    """Complete a bare ``tokenizer.json`` to a folder that transformers loads."""
    folder.mkdir()
    shutil.copyfile(file, folder / "tokenizer.json")
    known = {token["content"] for token in json.loads(file.read_text("utf-8"))["added_tokens"]}
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config = {key: token for key, token in special.items() if token in known}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": PLAIN_CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return folder
