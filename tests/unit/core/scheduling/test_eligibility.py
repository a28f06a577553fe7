from typing import Any

import pytest
from tests.fakes.facts import a_group, a_job, an_image, an_instance_type, at

from phjob_core.api import Reason
from phjob_core.scheduling.eligibility import Catalog, Ineligible, PodResources


def a_catalog(**group: Any) -> Catalog:
    """Return a catalog that allows `a_job`, except for these fields of its group."""
    catalog = Catalog()
    catalog.groups.upsert(a_group(**group))
    for name in ("gpu-1", "secret"):
        catalog.instance_types[name] = an_instance_type(name)
    for name in ("base-notebook", "secret"):
        catalog.images[name] = an_image(name)
    return catalog


def problem(catalog: Catalog, **job: Any) -> str:
    verdict = catalog.check(a_job(**job))
    assert isinstance(verdict, Ineligible)
    assert verdict.reason is Reason.INVALID_SPEC
    return verdict.message


def test_an_eligible_job_gets_the_limits_of_its_instance_type() -> None:
    """The admission reserves exactly these."""
    assert a_catalog().check(a_job()) == PodResources({"cpu": 1000, "nvidia.com/gpu": 1})


def test_a_job_has_the_default_limits_that_its_instance_type_does_not_name() -> None:
    """They count like all others, so that the pod's limits and its charge are the same (spec.md, P4)."""
    catalog = Catalog(default_limits={"ephemeral-storage": 10, "cpu": 9})
    catalog.groups.upsert(a_group())
    catalog.images["base-notebook"] = an_image()
    catalog.instance_types["gpu-1"] = an_instance_type("gpu-1", limits={"cpu": 1})
    assert catalog.check(a_job()) == PodResources({"cpu": 1, "ephemeral-storage": 10})


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"group": "nobody"}, "group 'nobody' does not exist"),
        ({"group_id": "other"}, "groupId 'other' is not the id of group 'phusers', which is 'mine'"),
        ({"user": "eve"}, "user 'eve' is not a member of group 'phusers'"),
        ({"image": "none"}, "image 'none' does not exist"),
        ({"image": "secret"}, "image 'secret' is not granted to group 'phusers'"),
        ({"instance_type": "none"}, "instance type 'none' does not exist"),
        ({"instance_type": "secret"}, "instance type 'secret' is not granted to group 'phusers'"),
    ],
)
def test_an_ineligible_job_gets_a_message_that_names_the_problem(job: dict[str, Any], message: str) -> None:
    """The user reads it in the job's status (spec.md, Q4)."""
    assert problem(a_catalog(users=("bob",), group_id="mine"), **job) == message


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("jupyter-bob", "jupyter-*"), ("redis-1", "redis-?"), ("hub", "hub")],
)
def test_a_reserved_name_is_rejected_whatever_the_catalog_says(name: str, pattern: str) -> None:
    """The pod of another workload would not find its name free (spec.md, Q4)."""
    catalog = Catalog(("jupyter-*", "redis-?", "hub"))
    verdict = catalog.check(a_job(name))
    assert verdict == Ineligible(
        Reason.INVALID_SPEC,
        f"the name {name!r} is reserved for other workloads ({pattern}): choose another name",
    )


def test_by_default_only_the_names_of_notebooks_are_reserved() -> None:
    """JupyterHub kills the pod that has the name of a notebook that it starts (spec.md, Q4)."""
    catalog = a_catalog()
    assert problem(catalog, name="jupyter-lin").startswith("the name 'jupyter-lin' is reserved")
    for name in ("jupyter", "my-jupyter-lin", "redis-10"):
        assert not isinstance(catalog.check(a_job(name)), Ineligible)


def test_a_job_without_a_user_cannot_run() -> None:
    """Not even in a group that is open to every user. Nobody's quota would count it (spec.md, Q4, E9)."""
    verdict = a_catalog(users=None).check(a_job(user=""))
    assert isinstance(verdict, Ineligible)
    assert (
        verdict.message == "spec.userName is missing, and cannot be added: submit the job again with a user"
    )
    assert verdict.is_final


def test_the_first_problem_is_reported() -> None:
    """The order of the checks is a promise (spec.md, Q4)."""
    catalog = a_catalog(users=(), invalid="groupQuota.gpu: 'lots' is not a quantity", group_id="mine")
    job = {"group_id": "other", "image": "none", "instance_type": "none"}
    assert problem(catalog, **job).startswith("group 'phusers' is unusable: groupQuota.gpu")
    assert problem(a_catalog(users=(), group_id="mine"), **job).startswith("groupId 'other'")
    assert problem(a_catalog(users=()), **job).startswith("user 'bob'")
    assert problem(a_catalog(), **job).startswith("image 'none'")


def test_an_id_counts_only_if_both_have_one() -> None:
    """PrimeHub's older objects have none."""
    assert not isinstance(a_catalog().check(a_job(group_id="any")), Ineligible)
    assert not isinstance(a_catalog(group_id="mine").check(a_job()), Ineligible)


def test_an_empty_list_of_users_admits_no_user_and_a_star_admits_all() -> None:
    """The fact about a group with `*` has no list (spec.md, A6)."""
    assert problem(a_catalog(users=())) == "user 'bob' is not a member of group 'phusers'"
    assert not isinstance(a_catalog(users=None).check(a_job()), Ineligible)


def test_an_unusable_object_is_named_with_its_problem() -> None:
    """An administrator must find the value."""
    catalog = a_catalog()
    catalog.images["base-notebook"] = an_image(invalid="it has no url")
    assert problem(catalog) == "image 'base-notebook' is unusable: it has no url"


def test_no_job_can_be_submitted_to_everyone() -> None:
    """Its grants are for all groups, and it has no quota: a job there would have none (spec.md, A7)."""
    catalog = a_catalog()
    catalog.groups.upsert(a_group("everyone"))
    message = "no job can be submitted to group 'everyone', which only grants; choose another group"
    assert problem(catalog, group="everyone") == message
    assert problem(a_catalog(), group="everyone") == message


def test_a_job_of_a_refused_group_names_the_older_one() -> None:
    """The two would share a volume (spec.md, A13)."""
    catalog = a_catalog(name="first", group="Team_A", created=at(0))
    catalog.groups.upsert(a_group("team-a", created=at(1)))
    assert problem(catalog, group="team-a").startswith(
        "group 'team-a' is refused: the older PhGroup 'first' has the group name 'Team_A', and names"
    )
    assert not isinstance(catalog.check(a_job(group="Team_A")), Ineligible)


def test_every_group_has_the_grants_of_everyone() -> None:
    """Only its grants apply to others, not its users (spec.md, A7)."""
    catalog = a_catalog(images=(), instance_types=())
    catalog.groups.upsert(
        a_group("everyone", images=("base-notebook",), instance_types=("gpu-1",), users=("lin",))
    )
    assert catalog.check(a_job()) == PodResources({"cpu": 1000, "nvidia.com/gpu": 1})
