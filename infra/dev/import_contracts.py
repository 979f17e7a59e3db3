"""A contract that import-linter does not bring: a package that imports only what a list names.

Its own `forbidden` contract lists what is refused, which never ends. Ours lists what is allowed.
"""

import sys

import grimp
from importlinter import Contract, ContractCheck, fields, output


class OnlyContract(Contract):  # type: ignore[misc]  # import-linter's base class is untyped
    """`package` imports itself, the standard library and the top-level names in `allowed`."""

    type_name = "only"

    package = fields.StringField()
    allowed = fields.SetField(subfield=fields.StringField(), required=False)

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002  # import-linter's signature
        package = str(self.package)
        allowed = sys.stdlib_module_names | set(self.allowed or ())
        modules = {package, *graph.find_descendants(package)}
        strangers = sorted(
            (importer, imported)
            for importer in modules
            for imported in graph.find_modules_directly_imported_by(importer)
            if imported not in modules and imported not in allowed
        )
        return ContractCheck(kept=not strangers, metadata={"strangers": strangers})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["strangers"]:
            output.print_error(f"{importer} imports {imported}, which is not on the list.")
