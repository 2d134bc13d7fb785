"""The admin, a page, a form and some data for visitors, and what is slow for who is logged in."""
import json
import time

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.template import engines
from django.urls import path

FORM = """<!doctype html><title>Import</title><h1>Import</h1>
<form method=post>{% csrf_token %}{{ form }}<button>Import</button></form>"""


class Import(forms.Form):
    name = forms.CharField(max_length=10)


@login_required
def import_view(request):
    form = Import(request.POST or None)
    if request.method == "POST" and form.is_valid():
        messages.success(request, "all rows are there")
        return redirect(f"/imports/{form.cleaned_data['name']}/")
    page = engines["django"].from_string(FORM).render({"form": form}, request)
    return HttpResponse(page, status=422 if form.is_bound else 200)


@login_required
def imported(request, name):
    said = ", ".join(str(message) for message in messages.get_messages(request))
    return HttpResponse(f"<h1>Imported {name}</h1><p>{said or 'nothing new'}</p>")


@login_required
def report(request):
    time.sleep(2.5)  # More than `after`.
    return JsonResponse({"of": request.user.username, "years": json.loads(request.body)["years"]})


urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/login/", LoginView.as_view(template_name="admin/login.html")),
    path("accounts/profile/", login_required(
        lambda request: HttpResponse(f"<h1>{request.user.username}</h1>"))),
    path("import/", import_view),
    path("imports/<slug:name>/", imported),
    path("api/reports/", report),
    path("news/", lambda request: HttpResponse("<h1>News</h1>")),
    path("contact/", lambda request: HttpResponse(get_token(request))),
    path("api/items", lambda request: JsonResponse({"items": [1, 2]})),
]
