"""The admin, and a page, a form and some data for visitors."""
from django.contrib import admin
from django.http import HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("news/", lambda request: HttpResponse("<h1>News</h1>")),
    path("contact/", lambda request: HttpResponse(get_token(request))),
    path("api/items", lambda request: JsonResponse({"items": [1, 2]})),
]
