"""Scores: per case (``metrics``), over cases (``statistics``), for two folders of masks (``folders``); printed ones
(``published``) and what arithmetic allows them to be (``arithmetic``, ``audit``)."""
