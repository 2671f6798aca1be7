"""`pyro-vae data` and `pyro-vae parts`."""


def test_data_describes_and_verifies(cli, real_data):
    result = cli("data", "frey", "--data-dir", real_data)
    assert result.status == 0
    for text in ("1,600", "365", "28 x 20 pixels", "uint8, divided by 256", "265a83a23adb"):
        assert text in result.out


def test_parts_lists_the_shelves(cli):
    result = cli("parts")
    assert result.status == 0
    for text in ("--model      bernoulli", "--prior      normal", "--guide      gaussian", "--inference  aevb"):
        assert text in result.out
