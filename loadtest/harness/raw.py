"""What the programs of a scenario printed, and the settings they ran with: text beside the figures, for whoever doubts them."""

import os

from . import peers, processes

# Of one program's output or settings. A configuration with thousands of routes says nothing more after that.
_TEXT_MAX = 16_384


class Raw:
    def __init__(self):
        self.parts = []

    def note(self, title, text):
        text = text.strip()
        if len(text) > _TEXT_MAX:
            text = f"{text[:_TEXT_MAX]}\n[{len(text) - _TEXT_MAX} characters more]"
        self.parts.append(f"=== {title}\n{text}\n")

    def note_settings(self, host, field, shown):
        """The filled-in configuration of each proxy, as far as a file says it."""
        for proxy in field:
            paths = [word for word in proxy.command if word.startswith(host.run_directory) and os.path.isfile(word)]
            for path in paths:
                if path.endswith((".cfg", ".conf", ".yaml", ".toml")):
                    text = processes.read(path).replace(host.run_directory, "$RUN")
                    self.note(f"{proxy.name}: {shown([path])} of {template_name(proxy)}", text)

    def write(self, directory, scenario):
        path = os.path.join(directory, "raw", f"{scenario}.txt")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(self.parts))


def template_name(proxy):
    template = peers.template_of(proxy)
    return f"loadtest/peers/{template}" if template else "no template"
