"""Stand-in for `folder_paths`: the folders of one base directory, and names for saved files."""

import os
import re
import time

base_path = ""
models_dir = ""
folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {}


def set_base_directory(base: str) -> None:
    """What --base-directory does."""
    global base_path, models_dir
    base_path, models_dir = base, os.path.join(base, "models")
    folder_names_and_paths.clear()


def get_output_directory() -> str:
    return os.path.join(base_path, "output")


def get_input_directory() -> str:
    return os.path.join(base_path, "input")


def get_temp_directory() -> str:
    return os.path.join(base_path, "temp")


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    paths, _ = folder_names_and_paths.setdefault(folder_name, ([], set()))
    if full_folder_path in paths:
        paths.remove(full_folder_path)
    paths.insert(0 if is_default else len(paths), full_folder_path)


def get_folder_paths(folder_name: str) -> list[str]:
    return folder_names_and_paths[folder_name][0][:]


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    """Folder, name, counter, sub-folder, prefix; a bare Exception for a prefix that leaves the folder."""
    for token, part in (("year", "%Y"), ("month", "%m"), ("day", "%d"), ("hour", "%H"), ("minute", "%M")):
        filename_prefix = filename_prefix.replace(f"%{token}%", time.strftime(part))
    normal = os.path.normpath(filename_prefix)
    subfolder, filename = os.path.split(normal)
    folder = os.path.join(output_dir, subfolder)
    if os.path.commonpath((output_dir, os.path.abspath(folder))) != output_dir:
        raise Exception("**** ERROR: Saving image outside the output folder is not allowed.\n" + folder)
    os.makedirs(folder, exist_ok=True)
    numbers = [re.fullmatch(rf"{re.escape(filename)}_(\d+).*", name) for name in os.listdir(folder)]
    return folder, filename, max((int(n[1]) for n in numbers if n), default=0) + 1, subfolder, filename_prefix
