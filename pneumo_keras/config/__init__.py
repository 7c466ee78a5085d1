"""Settings: TOML files, checked by pydantic, with overrides from the command line."""

from pneumo_keras.config.paths import (
    find_cache,
    find_moved_data,
    forget_process,
    list_paths,
    name_files,
    resolve_paths,
)
from pneumo_keras.config.settings import Config
from pneumo_keras.config.toml import (
    change_config,
    describe_config,
    explain_config,
    find_changes,
    find_named,
    format_config,
    load_config,
    parse_config,
)

__all__ = [
    "Config",
    "change_config",
    "describe_config",
    "explain_config",
    "find_cache",
    "find_changes",
    "find_moved_data",
    "find_named",
    "forget_process",
    "format_config",
    "list_paths",
    "load_config",
    "name_files",
    "parse_config",
    "resolve_paths",
]
