import pytest

from dspex.errors import StorageError
from dspex.operations.tenancy.vault import Vault


def test_a_sealed_text_is_opened_under_its_label_and_refused_however_it_was_changed() -> None:
    vault = Vault(lambda: b"k" * 32)
    sealed = vault.seal("the secret", label="default/KEY")
    assert vault.open(sealed, label="default/KEY") == "the secret"
    with pytest.raises(StorageError, match="was modified after"):
        vault.open(sealed, label="other/KEY")
    for changed in (sealed[:-1], sealed[:-4], sealed.partition(":")[0] + ":"):
        with pytest.raises(StorageError, match="was modified after"):
            vault.open(changed, label="default/KEY")
    with pytest.raises(StorageError, match="another server key"):
        Vault(lambda: b"x" * 32).open(sealed, label="default/KEY")
